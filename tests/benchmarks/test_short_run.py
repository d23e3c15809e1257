"""What CI runs: every benchmark once, in seconds, with the ratios printed and nothing left behind."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.commands import assert_prints, run

EXPECTED = (
    r"append .* \| pgbench .* \| ratio [\d.,]+ \| goal ≥ 0\.30",
    r"history .* \| bare ASGI .* \| ratio [\d.,]+ \| goal ≥ 0\.50",
    r"relay: first token, p50 .* \| direct .* \| added ms -?[\d.,]+ \| goal ≤ 20",
    r"relay: whole stream .* \| ratio [\d.,]+ \| goal ≤ 1\.05",
    r"relay: time of both services .* \| µs [\d.,]+ \| goal ≤ 150",
    r"read 50, one request a second each .* \| goal ≤ 100",
    r"send, one request a second each .* \| goal ≤ 50",
    r"fan-out, one process .* deliveries/s \| in memory .* \| ratio [\d.,]+ \| goal ≥ 0\.60",
    r"fan-out, two processes .* \| one process .* \| ratio [\d.,]+ \| goal ≥ 1\.00",
    r"fan-out: p99 at half that rate .* \| p99 ms [\d.,]+ \| goal ≤ 100",
    r"messages/s in rooms elsewhere .* \| added ms -?[\d.,]+ \| goal ≤ 5",
    r"memory: 1,000 idle sockets .* MiB .* \| in memory .* MiB",
    r"limits raised to 100,000 .*ws_frames_per_second",
    r"large: p50 .* \| ratio [\d.,]+ \| goal ≤ 1\.30",
    r"large: plan .*Index Scan",
    r"recorded: a round, p50 .* ms [\d.,]+ \| goal ≤ 10\.0",
    r"recorded: a round, p95 .* ms",
    r"agent alone: a round, p50 .* ms [\d.,]+ \| goal ≤ 10\.0",
    r"recorded: 10 tools of 0\.5 s at once .* one alone .* ratio [\d.,]+ \| goal ≤ 1\.10",
    r"ready, empty data folder .* \| goal ≤ 15",
    r"ready, started again .* \| goal ≤ 5",
    r"memory: chat API .* \| goal ≤ 160",
    r"memory: agent, embedder loaded .* \| goal ≤ 400",
)


def test_short_run_prints_every_ratio(scratch: Path) -> None:
    assert_prints(run(scratch, "benchmarks", "--short"), *EXPECTED)
