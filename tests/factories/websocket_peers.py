"""A server whose sockets do what a test wants to see, and peers that keep to the rules or do not."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect

from shared.web.websockets import ABORT, BUFFERED, WRITE, extension, text_frame

LARGE = text_frame("x" * 60_000)


class Server:
    """An application whose paths are the things a socket may do, and what it saw."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[Message] = []
        self.ended: list[BaseException | None] = []
        self.most_buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        try:
            behaviour: Callable[[Scope, Receive, Send], Awaitable[None]] = getattr(self, scope["path"].strip("/"))
            await behaviour(scope, receive, send)
        except BaseException as error:
            self.ended.append(error)
            raise
        self.ended.append(None)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            self.seen.append(message)
            if message["type"] == "websocket.disconnect":
                return
            if "text" in message:
                text = message["text"]
                await send({"type": "websocket.send", "text": text, "frame": text_frame(text)})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})

    async def sized(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        size = int((await receive())["text"])
        await send({"type": "websocket.send", "text": "", "frame": text_frame("a" * size)})
        await receive()

    async def plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Text that is not encoded yet goes the usual way."""
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "plain ä"})
        self.seen.append(await receive())

    async def write(self, scope: Scope, receive: Receive, send: Send) -> None:
        write = extension(scope, WRITE)
        assert write is not None
        assert not write(text_frame("too early"))
        await send({"type": "websocket.accept"})
        assert write(text_frame("one") + text_frame("two"))
        self.seen.append(await receive())
        assert not write(text_frame("too late"))

    async def talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say as much as the peer takes, and hear nothing but its end."""
        buffered = extension(scope, BUFFERED)
        assert buffered is not None
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "", "frame": LARGE})
            self.most_buffered = max(self.most_buffered, buffered())

    async def talk_until_stalled(self, scope: Scope, receive: Receive, send: Send) -> None:
        abort = extension(scope, ABORT)
        assert abort is not None
        await send({"type": "websocket.accept"})
        try:
            while True:
                async with asyncio.timeout(0.3):
                    await send({"type": "websocket.send", "text": "", "frame": LARGE})
        except TimeoutError:
            abort()
            abort()
        self.seen.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "", "frame": LARGE})

    async def talk_then_close(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        write = extension(scope, WRITE)
        assert write is not None
        while write(LARGE):
            pass
        await send({"type": "websocket.close", "code": 4408})

    async def close(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4403, "reason": "go"})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "", "frame": LARGE})

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    async def fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise RuntimeError("a fault of ours")

    async def deaf(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.sleep(30)


class RawPeer:
    """A peer that does only what it is told, beneath the rules of the protocol."""

    def __init__(self, sock: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.socket = sock
        self.reader = reader
        self.writer = writer

    def send(self, opcode: int, payload: bytes, *, fin: bool = True, times: int = 1) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        head = bytes([(0x80 if fin else 0) | opcode])
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
        self.writer.write((head + length + mask + masked) * times)

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        head = await self.reader.readexactly(2)
        size = head[1]
        if size == 126:
            size = struct.unpack("!H", await self.reader.readexactly(2))[0]
        return head[0] & 0x0F, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """The code the server closes with, after whatever else it says."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                code: int = struct.unpack("!H", payload[:2])[0]
                return code

    async def gone(self) -> bool:
        """Read to the end; the server has ended it when this returns."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            return True
        return True


@asynccontextmanager
async def raw(server: Server, path: str, *, receive_buffer: int | None = None) -> AsyncIterator[RawPeer]:
    port = int(server.address.rsplit(":", 1)[1])
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode("latin-1")
        + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    try:
        yield RawPeer(sock, reader, writer)
    finally:
        writer.transport.abort()


async def accepted(peer: RawPeer) -> None:
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.01)


def join(server: Server, path: str) -> Any:
    return connect(server.address + path, compression=None, max_size=None)
