"""A small internet on loopback: names and public addresses that lead to servers of the test."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpcore

from shared.web.addresses import IpAddress
from shared.web.guarded_network import TcpDialer

PUBLIC = "93.184.216.34"

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FakeResolver:
    """Answers from `names`: the next answer of the name each time, the last for ever.

    Whatever else can be read as a number is one, as the operating system reads it.
    """

    names: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str) -> Sequence[IpAddress]:
        answers = self.names.get(host)
        earlier = self.asked.count(host)
        self.asked.append(host)
        if answers is not None:
            return [ip_address(address) for address in answers[min(earlier, len(answers) - 1)]]
        try:
            return [ip_address(socket.inet_aton(host))]
        except OSError:
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from None


@dataclass
class FakeDialer:
    """Leads some addresses to servers of the test, and goes to all others really."""

    ports: Mapping[tuple[str, int], int]
    dialled: list[tuple[str, int]] = field(default_factory=list)

    async def dial(self, address: IpAddress, port: int) -> httpcore.AsyncNetworkStream:
        self.dialled.append((str(address), port))
        local = self.ports.get((str(address), port))
        if local is not None:
            return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", local, timeout=5)
        return await TcpDialer().dial(address, port)


@dataclass
class WebServer:
    """Says byte by byte what the test wants. `pages` are by path; a path that is missing is a 404."""

    pages: dict[str, bytes | Handler] = field(default_factory=dict)
    port: int = 0
    connections: int = 0
    closed: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            target = head.split(b" ")[1].decode()
            answer = self.pages.get(target, page("nothing here", status="404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(target, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()


@asynccontextmanager
async def listening(
    server: WebServer | None = None, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[WebServer]:
    server = server or WebServer()
    listener = await asyncio.start_server(server.handle, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def page(
    body: str | bytes,
    content_type: str | None = "text/plain; charset=utf-8",
    *,
    status: str = "200 OK",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def redirect(location: str, status: str = "302 Found") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (status.encode(), location.encode())


def packed(body: bytes, packing: str = "gzip") -> bytes:
    return page(gzip.compress(body), headers={"Content-Encoding": packing})
