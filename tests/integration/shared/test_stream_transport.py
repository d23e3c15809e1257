"""The transport against a raw server that says exactly what the test wants, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.stream_transport import StreamTransport, needs_proxy


class RawServer:
    """Counts connections and answers each request by the next piece of the script; the last repeats."""

    def __init__(self, *answers: list[bytes], close: bool = False) -> None:
        self._answers = answers
        self._close = close
        self.connections = 0
        self.requests: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + await reader.readexactly(length))
                for part in self._answers[min(len(self.requests), len(self._answers)) - 1]:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if self._close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: RawServer) -> AsyncGenerator[httpx.AsyncClient]:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    transport = StreamTransport(connect_seconds=30)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        listener.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Thing: a\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        ([PLAIN + b"hello"], False),
        ([PLAIN, b"he", b"llo"], False),
        ([CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"], False),
        ([CHUNKED, b"2\r\nh", b"e\r\n3\r", b"\nllo\r\n0", b"\r\n\r\n"], False),
        ([bytes([byte]) for byte in PLAIN + b"hello"], False),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN + b"hello"], False),
        ([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], True),
        ([b"HTTP/1.0 200 OK\r\n\r\nhello"], True),
    ],
)
async def test_reads_answers_however_they_are_cut(answer: list[bytes], close: bool) -> None:
    async with serving(RawServer(answer, close=close)) as client:
        response = await client.post("/path?query=1", content=b"question")
    assert (response.status_code, response.content) == (200, b"hello")


async def test_sends_the_request_whole() -> None:
    server = RawServer([PLAIN + b"hello"])
    async with serving(server) as client:
        await client.post("/path?query=1", content=b"question", headers={"X-Mine": "yes"})
    head, body = server.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /path?query=1 HTTP/1.1\r\n")
    assert b"X-Mine: yes" in head
    assert b"Host: 127.0.0.1" in head
    assert body == b"question"


async def test_a_connection_serves_one_call_after_another() -> None:
    server = RawServer([PLAIN + b"hello"])
    async with serving(server) as client:
        for _ in range(5):
            await client.get("/")
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"],
        [PLAIN + b"hello and then some"],
    ],
)
async def test_a_connection_that_cannot_go_on_is_not_used_again(answer: list[bytes]) -> None:
    server = RawServer(answer)
    async with serving(server) as client:
        for _ in range(2):
            assert (await client.get("/")).content == b"hello"
    assert server.connections == 2


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    server = RawServer([PLAIN + b"hello"], close=True)
    async with serving(server) as client:
        for _ in range(3):
            assert (await client.get("/")).content == b"hello"
            for _ in range(10):  # turns of the loop, in which the end is seen: on a busy machine time says little
                await asyncio.sleep(0.005)
    assert server.connections == 3


async def test_leaving_an_answer_unread_closes_its_connection() -> None:
    server = RawServer([CHUNKED + b"2\r\nhe\r\n"], [PLAIN + b"hello"])
    async with serving(server) as client:
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_raw()) == b"he"
        assert (await client.get("/")).content == b"hello"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([b"SSH-2.0-OpenSSH\r\n"], httpx.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"], httpx.RemoteProtocolError),
        ([b"HTTP/1.1 200"], httpx.ReadError),
        ([], httpx.ReadError),
        ([PLAIN + b"he"], httpx.ReadError),
        ([CHUNKED + b"2\r\nhe\r\n"], httpx.ReadError),
        ([CHUNKED + b"nonsense\r\n"], httpx.RemoteProtocolError),
    ],
)
async def test_a_broken_answer_is_a_transport_error(answer: list[bytes], error: type[Exception]) -> None:
    async with serving(RawServer(answer, close=True)) as client:
        with pytest.raises(error):
            await client.get("/")


async def test_nobody_listening_is_a_connect_error() -> None:
    async with httpx.AsyncClient(transport=StreamTransport(connect_seconds=30)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")


async def test_a_flood_waits_in_the_socket() -> None:
    size = 4 * 1024 * 1024
    server = RawServer([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"x" * size])
    async with serving(server) as client, client.stream("GET", "/") as response:
        await asyncio.sleep(0.2)
        pieces = [len(piece) async for piece in response.aiter_raw()]
    assert sum(pieces) == size
    assert max(pieces) < size / 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"https_proxy": "http://proxy:3128"}, True),
        ({"http_proxy": "http://proxy:3128"}, False),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "api.test"}, False),
    ],
)
def test_a_proxy_of_the_environment_is_respected(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert needs_proxy(httpx.URL("https://api.test/v1")) is expected
