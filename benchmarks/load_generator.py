"""The process that makes the load. It shares the machine with what it measures, so it does next to nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from dataclasses import asdict
from typing import Any, cast

import orjson
import uvloop

from benchmarks.load import Load, LoadResult, StreamResult, Streams, percentile
from benchmarks.responses import ResponseReader

_HOST = "127.0.0.1"
_PATIENCE_SECONDS = 30.0


class UnexpectedAnswer(Exception):
    """An answer with another status than the benchmark asks for: its figures would mean nothing."""


class _Window:
    """What all connections share: when to count, when to stop."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.loop = asyncio.get_running_loop()
        self.counting = False
        self.stopping = False
        self.failure: Exception | None = None
        self.over = asyncio.Event()
        self.latencies: list[float] = []
        self.body_bytes = 0

    def fail(self, error: Exception) -> None:
        if not self.stopping:
            self.failure = self.failure or error
            self.over.set()


class _Connection(asyncio.Protocol):
    def __init__(self, window: _Window, seed: int) -> None:
        self._window = window
        self._reader = ResponseReader()
        self._order = random.Random(seed)
        self._transport: asyncio.WriteTransport | None = None
        self._sent_at = 0.0
        self._body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the class.
        self._transport = cast("asyncio.WriteTransport", transport)
        pause = self._window.load.pause_seconds
        if pause:
            self._window.loop.call_later(self._order.random() * pause, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._window.fail(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            complete = reader.feed(data)
        except Exception as error:  # noqa: BLE001 - the event loop would swallow it; the run has to fail
            self._window.fail(error)
            return
        for part in reader.body:
            self._body += len(part)
        if complete:
            self._answered(data)

    def _answered(self, data: bytes) -> None:
        window = self._window
        now = time.perf_counter()
        if self._reader.status != window.load.expected_status:
            window.fail(UnexpectedAnswer(f"status {self._reader.status}: {data[-500:]!r}"))
            return
        if window.counting:
            window.latencies.append(now - self._sent_at)
            window.body_bytes += self._body
        self._body = 0
        if window.stopping:
            return
        pause = window.load.pause_seconds
        if pause:
            window.loop.call_later(max(0.0, self._sent_at + pause - now), self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._window.stopping or self._transport is None:
            return
        self._sent_at = time.perf_counter()
        requests = self._window.load.requests
        self._transport.write(requests[int(self._order.random() * len(requests))])


async def make_load(load: Load) -> LoadResult:
    window = _Window(load)
    transports = []
    for number in range(load.connections):
        transport, _ = await window.loop.create_connection(
            lambda number=number: _Connection(window, number),  # type: ignore[misc]  # mypy cannot infer the default
            _HOST,
            load.port,
        )
        transports.append(transport)
    await _wait(window, load.warm_up_seconds)
    gc.collect()
    gc.disable()
    window.counting = True
    started, cpu = time.perf_counter(), time.process_time()
    await _wait(window, load.seconds)
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while not window.latencies and window.failure is None and time.monotonic() < give_up_at:
        await _wait(window, 0.01)  # a short window of a busy machine ends with the first answer
    window.counting = False
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    window.stopping = True
    for transport in transports:
        transport.close()
    if window.failure is not None:
        raise window.failure
    ordered = sorted(window.latencies)
    if not ordered:
        raise UnexpectedAnswer("not one answer came in time")
    return LoadResult(
        per_second=len(ordered) / elapsed,
        p50_ms=percentile(ordered, 0.50) * 1000,
        p95_ms=percentile(ordered, 0.95) * 1000,
        p99_ms=percentile(ordered, 0.99) * 1000,
        answers=len(ordered),
        body_bytes=window.body_bytes,
        generator_cpu=cpu / elapsed,
    )


async def _wait(window: _Window, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await window.over.wait()
    except TimeoutError:
        pass


class _StreamConnection(asyncio.Protocol):
    """Sends its requests one after another and keeps every piece with the moment at which it came."""

    def __init__(self, requests: list[bytes], mark: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.results: list[StreamResult] = []
        self._requests = requests
        self._mark = mark
        self._reader = ResponseReader()
        self._transport: asyncio.WriteTransport | None = None
        self._begin()

    def _begin(self) -> None:
        self._sent_at = 0.0
        self._first_at = 0.0
        self._parts: list[bytes] = []
        self._reads = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the class.
        self._transport = cast("asyncio.WriteTransport", transport)

    def start(self) -> None:
        assert self._transport is not None
        self._begin()
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[len(self.results)])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        try:
            complete = self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 - the event loop would swallow it; the run has to fail
            self.done.set_exception(error)
            return
        self._parts.extend(self._reader.body)
        self._reads += 1
        if not self._first_at and any(self._mark in part for part in self._reader.body):
            self._first_at = now
        if complete:
            self._ended(now)

    def _ended(self, now: float) -> None:
        body = b"".join(self._parts)
        if self._reader.status != 200 or not self._first_at:
            self.done.set_exception(UnexpectedAnswer(f"status {self._reader.status}: {body[-500:]!r}"))
            return
        self.results.append(
            StreamResult(
                first_token_seconds=self._first_at - self._sent_at,
                total_seconds=now - self._sent_at,
                pieces=self._reads,
                body=body.decode(),
            )
        )
        if len(self.results) == len(self._requests):
            self.done.set_result(None)
        else:
            self.start()


async def make_streams(streams: Streams) -> list[StreamResult]:
    loop = asyncio.get_running_loop()
    connections: list[_StreamConnection] = []
    for requests in streams.requests:
        _, connection = await loop.create_connection(
            lambda requests=list(requests): _StreamConnection(requests, streams.mark),  # type: ignore[misc]  # as above
            _HOST,
            streams.port,
        )
        connections.append(connection)
    gc.disable()
    for number, connection in enumerate(connections):
        loop.call_later(number * streams.stagger_seconds, connection.start)
    longest = _PATIENCE_SECONDS * max(len(requests) for requests in streams.requests)
    async with asyncio.timeout(longest):
        await asyncio.gather(*(connection.done for connection in connections))
    return [result for connection in connections for result in connection.results]


def main() -> None:
    task: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    answer: Any
    if sys.argv[1] == "load":
        requests = [item.encode("latin-1") for item in task.pop("requests")]
        answer = asdict(uvloop.run(make_load(Load(requests=requests, **task))))
    else:
        rows = [[item.encode("latin-1") for item in row] for row in task.pop("requests")]
        mark = task.pop("mark").encode("latin-1")
        results = uvloop.run(make_streams(Streams(requests=rows, mark=mark, **task)))
        answer = [asdict(result) for result in results]
    # With PYTHONUNBUFFERED, `sys.stdout.buffer` may write less than it was given.
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(orjson.dumps(answer))


if __name__ == "__main__":
    main()
