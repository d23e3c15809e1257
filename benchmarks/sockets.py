"""What the clients of a room are asked to do, and what they measured: plain data that crosses a pipe as JSON."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import orjson

from benchmarks.load import LoadFailed

NUMBER = "0000000000"
"""Stands in a message where the load writes its number, ten digits, so that receivers know when it was sent."""


@dataclass(frozen=True)
class RoomSocket:
    """One WebSocket. `opening` is what it says first, each answered by a frame of the type in `answers`.

    `message` is what it says over and over, with `NUMBER` wherever the number goes, or None if it only listens.
    """

    port: int
    path: str
    opening: Sequence[str] = ()
    answers: Sequence[str] = ()
    room: int = 0
    message: str | None = None


@dataclass(frozen=True)
class RoomLoad:
    """Sockets in rooms, some of which write.

    With `per_second` 0, each writer keeps `in_flight` messages unanswered; else all of them together send so many a
    second, evenly, whatever the answers. What was sent has to arrive within `patience_seconds` after the last.
    """

    sockets: Sequence[RoomSocket]
    seconds: float
    warm_up_seconds: float = 1.0
    in_flight: int = 1
    per_second: float = 0.0
    patience_seconds: float = 30.0
    pids: Sequence[int] = ()
    """Processes whose processor time is taken."""


@dataclass(frozen=True)
class RoomResult:
    """Rates within the measured window. Latencies, from a send to each of its receivers, are in milliseconds."""

    deliveries_per_second: float
    messages_per_second: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    generator_cpu: float
    """Share of one core that the load generator itself took."""
    server_cpu: float
    """The same of the processes that were named, together."""

    @property
    def cpu_us_per_delivery(self) -> float:
        return self.server_cpu / self.deliveries_per_second * 1e6


def run_room(load: RoomLoad) -> RoomResult:
    """Measure in a process of its own.

    Raises `LoadFailed` when a socket is closed, or does not get each message of its room, in order, exactly once.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.socket_load"], input=_task(load), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode(errors="replace").strip()[-2000:])
    return RoomResult(**orjson.loads(done.stdout))


@contextmanager
def open_sockets(sockets: Sequence[RoomSocket]) -> Iterator[None]:
    """Hold sockets open for the time of the block, from a process of its own. Nobody writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.socket_load", "--hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(_task(RoomLoad(sockets, seconds=0.0)) + b"\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise LoadFailed(process.communicate()[1].decode(errors="replace").strip()[-2000:])
        yield
    finally:
        _, said = process.communicate()  # the end of its input tells it to go
    if process.returncode != 0:
        raise LoadFailed(said.decode(errors="replace").strip()[-2000:])


def _task(load: RoomLoad) -> bytes:
    return orjson.dumps(asdict(load))
