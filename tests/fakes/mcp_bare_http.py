"""An MCP server over streamable HTTP that dies, forgets and refuses when it is told to: in the test's own loop."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.fakes.mcp_bare_server import MIB, BareServer

_BLOCK = b"x" * 65_536


class BareHttpServer:
    """Answers as `BareServer` does. `exit_now()` ends it as a kill would, `flood(mib)` is sent piece by piece.

    `port` 0 takes a free one; `token` is what the header `Authorization` must hold, None for whatever it holds.
    """

    def __init__(self, *, port: int = 0, token: str | None = None) -> None:
        self.port = port
        self._expected = None if token is None else f"Bearer {token}"
        self._server = BareServer()
        self._sessions: set[str] = set()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    def die(self) -> None:
        """Nobody listens any more, and who was connected is cut off."""
        self._listener.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                method, headers = _head(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._respond(writer, method, headers, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went, or we did
        finally:
            self._open.discard(writer)
            writer.close()

    async def _respond(self, writer: asyncio.StreamWriter, method: str, headers: dict[str, str], body: bytes) -> None:
        if self._expected is not None and headers.get("authorization") != self._expected:
            writer.write(_answer("401 Unauthorized"))
            return
        if method != "POST":
            writer.write(_answer("200 OK" if method == "DELETE" else "405 Method Not Allowed"))
            return
        message = json.loads(body)
        session = headers.get("mcp-session-id", "")
        if message["method"] == "initialize":
            self._sessions.add(session := uuid4().hex)
        elif session not in self._sessions:
            writer.write(_answer("404 Not Found"))
            return
        match message.get("params"):
            case {"name": "exit_now"}:
                self.die()
                return
            case {"name": "flood", "arguments": {"mib": size}}:
                await _flood(writer, message["id"], int(size) * MIB)
                return
        answer = self._server.answer(message)
        if answer is None:
            writer.write(_answer("202 Accepted"))
        else:
            writer.write(_answer("200 OK", json.dumps(answer).encode(), session))


def _head(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = (line.partition(":") for line in lines)
    return first.split(" ")[0], {name.lower(): value.strip() for name, _, value in headers}


def _answer(status: str, body: bytes = b"", session: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Mcp-Session-Id: {session}\r\n\r\n".encode() + body if session else f"{head}\r\n".encode() + body


async def _flood(writer: asyncio.StreamWriter, request_id: Any, size: int) -> None:
    """An answer of so many bytes, of which no more than a few pieces are ever held."""
    start = json.dumps({"jsonrpc": "2.0", "id": request_id})[:-1].encode() + b', "result": {"content": "'
    end = b'"}}'
    length = len(start) + size + len(end)
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
    writer.write(start)
    for _ in range(size // len(_BLOCK)):
        writer.write(_BLOCK)
        await writer.drain()
    writer.write(end)
