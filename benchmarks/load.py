"""What the load generator is asked to do, and what it measured: plain data that crosses a pipe as JSON."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Load:
    """Keep-alive connections that each send one request after another.

    Every connection takes the requests in an order of its own. `pause_seconds` is what a connection waits
    between the starts of two requests; 0 sends the next when the answer is there.
    """

    port: int
    connections: int
    requests: Sequence[bytes]
    expected_status: int
    seconds: float
    warm_up_seconds: float = 1.0
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class LoadResult:
    """`per_second` counts answers within the measured window; latencies are in milliseconds."""

    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    answers: int
    body_bytes: int
    generator_cpu: float
    """Share of one core that the load generator itself took."""


@dataclass(frozen=True)
class Streams:
    """Streamed responses, each on its own connection: stream `i` begins `i * stagger_seconds` after the first.

    Each connection takes its `requests` one after another. `mark` is what the first token's bytes hold.
    """

    port: int
    requests: Sequence[Sequence[bytes]]
    mark: bytes
    stagger_seconds: float


@dataclass(frozen=True)
class StreamResult:
    """Seconds from the request to the first token and to the end; `body` is the whole response."""

    first_token_seconds: float
    total_seconds: float
    pieces: int
    body: str


def run_load(load: Load) -> LoadResult:
    """Measure in a process of its own. Raises `LoadFailed` when one answer is not what was expected."""
    answer = _ask("load", {**asdict(load), "requests": [item.decode("latin-1") for item in load.requests]})
    return LoadResult(**answer)


def run_streams(streams: Streams) -> list[StreamResult]:
    """The same for streams: all of them, in the order in which they ended."""
    requests = [[item.decode("latin-1") for item in row] for row in streams.requests]
    answer = _ask("streams", {**asdict(streams), "requests": requests, "mark": streams.mark.decode("latin-1")})
    return [StreamResult(**item) for item in answer]


class LoadFailed(Exception):
    """The load generator gave up; its last words are the message."""


def _ask(kind: str, task: dict[str, Any]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_generator", kind],
        input=orjson.dumps(task),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode(errors="replace").strip()[-2000:])
    return orjson.loads(done.stdout)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in rising order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
