"""What CI runs: every benchmark once, in seconds, with the ratios printed and nothing left behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stack import plain_environment

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = (
    r"append .* \| pgbench .* \| ratio [\d.]+ \| goal ≥ 0\.30",
    r"history .* \| bare ASGI .* \| ratio [\d.]+ \| goal ≥ 0\.50",
    r"relay: first token, p50 .* \| direct .* \| added ms -?[\d.]+ \| goal ≤ 20",
    r"relay: whole stream .* \| ratio [\d.]+ \| goal ≤ 1\.05",
    r"relay: time of both services .* \| µs [\d.]+ \| goal ≤ 150",
    r"read 50, one request a second each .* \| goal ≤ 100",
    r"send, one request a second each .* \| goal ≤ 50",
    r"fan-out, one process .* deliveries/s \| in memory .* \| ratio [\d.]+ \| goal ≥ 0\.60",
    r"fan-out, two processes .* \| one process .* \| ratio [\d.]+ \| goal ≥ 1\.00",
    r"fan-out: p99 at half that rate .* \| p99 ms [\d.]+ \| goal ≤ 100",
    r"messages/s in rooms elsewhere .* \| added ms -?[\d.]+ \| goal ≤ 5",
    r"memory: 1,000 idle sockets .* MiB .* \| in memory .* MiB",
    r"limits raised to 100,000 .*ws_frames_per_second",
    r"large: p50 .* \| ratio [\d.]+ \| goal ≤ 1\.30",
    r"large: plan .*Index Scan",
    r"recorded: a round, p50 .* ms [\d.]+ \| goal ≤ 10\.0",
    r"recorded: a round, p95 .* ms",
    r"agent alone: a round, p50 .* ms [\d.]+ \| goal ≤ 10\.0",
    r"recorded: 10 tools of 0\.5 s at once .* one alone .* ratio [\d.]+ \| goal ≤ 1\.10",
    r"ready, empty data folder .* \| goal ≤ 15",
    r"ready, started again .* \| goal ≤ 5",
    r"memory: chat API .* \| goal ≤ 160",
    r"memory: agent, embedder loaded .* \| goal ≤ 400",
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter, which pytest's are not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="colloquy-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_short_run_prints_every_ratio(scratch: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short"],
        cwd=ROOT,
        env=plain_environment(TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    missing = [pattern for pattern in EXPECTED if re.search(pattern, done.stdout) is None]
    assert not missing, done.stdout
    assert not list(scratch.glob("colloquy-*")), "something was left behind"
