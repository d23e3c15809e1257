"""The load generator as a process, against a server that counts what it is asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from benchmarks.load import Load, LoadFailed, Streams, run_load, run_streams

REQUESTS = [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"]
SLOW_SECONDS = 0.3
"""Longer than a busy machine keeps the client waiting for a processor."""


@dataclass
class CountingServer:
    """Answers with `status`; `/stream` in two chunks, the second one `SLOW_SECONDS` later."""

    port: int = 0
    status: int = 200
    paths: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                self.paths.append(path)
                if path == b"/stream":
                    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n")
                    await asyncio.sleep(SLOW_SECONDS)
                    writer.write(b"5\r\ntoken\r\n")
                    await asyncio.sleep(SLOW_SECONDS)
                    writer.write(b"3\r\nend\r\n0\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nok" % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
def server() -> Iterator[CountingServer]:
    counting = CountingServer()
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(counting.answer, "127.0.0.1", 0))
    counting.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield counting
    loop.call_soon_threadsafe(listening.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_counts_answers_on_connections_that_stay_open(server: CountingServer) -> None:
    result = run_load(Load(server.port, 3, REQUESTS, 200, seconds=0.4, warm_up_seconds=0.3))
    assert server.connections == 3
    assert set(server.paths) == {b"/a", b"/b"}
    assert 0 < result.answers < len(server.paths)  # the warm-up does not count
    # A busy machine ends the window late.
    assert 0 < result.per_second <= result.answers / 0.39
    assert result.body_bytes == 2 * result.answers
    assert 0 < result.p50_ms <= result.p95_ms <= result.p99_ms


def test_paced_connections_wait_between_requests(server: CountingServer) -> None:
    load = Load(server.port, 4, REQUESTS, 200, seconds=0.6, warm_up_seconds=0.2, pause_seconds=0.2)
    # 20 a second; without a pause it would be thousands.
    assert 5 < run_load(load).per_second < 30


def test_another_status_ends_the_measurement(server: CountingServer) -> None:
    server.status = 500
    with pytest.raises(LoadFailed, match="UnexpectedAnswer: status 500"):
        run_load(Load(server.port, 2, REQUESTS, 200, seconds=5, warm_up_seconds=5))


def test_streams_tell_the_first_token_from_the_end(server: CountingServer) -> None:
    request = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    results = run_streams(Streams(server.port, [[request, request], [request, request]], b"token", 0.01))
    assert len(results) == 4
    assert server.connections == 2
    for result in results:
        assert result.body == "begintokenend"
        assert SLOW_SECONDS <= result.first_token_seconds < result.total_seconds - SLOW_SECONDS / 2


def test_a_stream_without_the_token_fails(server: CountingServer) -> None:
    request = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    with pytest.raises(LoadFailed, match="UnexpectedAnswer"):
        run_streams(Streams(server.port, [[request]], b"no such token", 0.0))
