"""uvicorn's WebSocket connection, made fit for rooms.

A frame that goes to many sockets is encoded once, a peer that does not read cannot hold on to a connection or to
memory, and neither addresses nor frames are logged: they carry tickets and what people say.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from asyncio.transports import BaseTransport
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

ABORT: Final = "colloquy.abort"
"""Extension: `() -> None`, ends the TCP connection at once, for a peer behind whose full buffer a close frame waits."""
BUFFERED: Final = "colloquy.buffered"
"""Extension: `() -> int`, bytes that the peer has not taken and the kernel has no room for."""
WRITE: Final = "colloquy.write"
"""Extension: `(frames: bytes) -> bool`, writes encoded frames now, or says False: not open, or the buffer is full."""

MOST_FRAME_BYTES: Final = 64 * 1024
KERNEL_BYTES: Final = 256 * 1024
"""What the kernel keeps of what a peer has not taken. Linux doubles it."""
PING_SECONDS: Final = 20.0
CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to read what was written and to answer a close frame."""
FLOODED: Final = 4429
"""Close code for a peer that sends faster than anything it may send is read."""
MOST_WAITING: Final = 1000
"""Messages that arrived and that the application has not asked for. Reading stops at the first one; what was read
with it from the kernel still comes."""
MOST_FRAGMENTS: Final = 256
MOST_CONTROL_FRAMES: Final = 100
"""Pings and pongs of a peer within a second. The application never sees them, so it cannot count them."""
_SLICE = 8 * 1024
"""Bytes parsed between two looks at what they asked for: 64 KiB can hold ten thousand pings."""

# Not uvicorn's logger: its lines show the address with its query, where tickets are, and at debug every frame.
_log = logging.getLogger("uvicorn.error.websockets")
_log.setLevel(logging.WARNING)


class WebSocketOptions(TypedDict):
    """The part of `uvicorn.Config` that concerns WebSockets."""

    ws: type[asyncio.Protocol]
    ws_max_size: int
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_per_message_deflate: bool


def websocket_options() -> WebSocketOptions:
    """No compression: it would be done per socket, and costs 30 KiB of memory for each."""
    return WebSocketOptions(
        ws=RoomProtocol,
        ws_max_size=MOST_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
    )


def text_frame(text: str | bytes) -> bytes:
    """One whole text frame as a server sends it (RFC 6455, 5.2: final, unmasked). Bytes must be UTF-8."""
    payload = text.encode() if isinstance(text, str) else text
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


class RoomProtocol(WebSocketsSansIOProtocol):
    """`{"type": "websocket.send", "text": …, "frame": bytes}`: `frame`, one or more encoded frames, goes out as it is.

    The application must ask for messages: while one waits, nothing is read, pongs neither, and the peer would be
    taken for dead after `ws_ping_timeout`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _log
        self.conn.logger = _log
        self.conn.debug = False
        self.close_timeout = CLOSE_SECONDS
        # The peer or the server ended it, not the application: what the application still sends has nowhere to go.
        self._ended = False
        # The peer broke the rules: nothing it still says is looked at.
        self._failed = False
        self._aborted = False
        self._linger: asyncio.TimerHandle | None = None
        self._owed_pong: bytes | None = None
        self._control_frames = 0
        self._control_since = 0.0

    # What comes in

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            if self._failed or self.transport.is_closing():
                return
            super().data_received(data[start : start + _SLICE] if len(data) > _SLICE else data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # A request line or header that is too long; the answer is written already, or there is none.
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.close_sent:
            self._close()
            return
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[ABORT] = self.abort
        extensions[BUFFERED] = self.buffered
        extensions[WRITE] = self.write

    def handle_cont(self, event: Frame) -> None:
        # Empty fragments do not count towards the size of a message.
        if len(self.frames) >= MOST_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self._ended:
            return
        if self.queue.qsize() >= MOST_WAITING:
            self._fail(FLOODED, "too many messages")
            return
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            self._fail(CloseCode.INVALID_DATA, "not UTF-8")
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        # Pings that were parsed together are answered together, at the first.
        if not self._count_control_frame() or self.close_sent or not pong:
            return
        if self.writable.is_set():
            self.transport.write(pong)
        else:
            # Only the newest are answered (RFC 6455, 5.5.3), or a peer that never reads could fill the memory.
            self._owed_pong = pong

    def handle_pong(self, event: Frame) -> None:
        if self._count_control_frame():
            super().handle_pong(event)

    def handle_close(self, event: Frame) -> None:
        if not self.close_sent:
            self._ended = True
        super().handle_close(event)
        self._abort_later()

    def handle_parser_exception(self) -> None:
        close = self.conn.close_sent
        if self.close_sent or close is None:
            # It broke the rules after the close frame.
            self.abort()
            return
        self._failed = True
        self._end(close.code, close.reason)
        if self.transport.can_write_eof():
            # Not close: what the peer is still sending would be answered with a reset, which can overtake the code.
            self.transport.write_eof()

    def eof_received(self) -> None:
        super().eof_received()
        self._abort_later()

    # What goes out

    async def send(self, message: ASGISendEvent) -> None:
        frame = cast("Mapping[str, Any]", message).get("frame")
        if frame is not None and self.handshake_complete and not self.close_sent:
            if not self.writable.is_set():
                await self.writable.wait()
            if not self._is_open():
                raise ClientDisconnected
            self.transport.write(frame)
            return
        if message["type"] == "websocket.close" and not await self._can_close():
            return
        if self._ended or self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.close" or self.transport.is_closing():
            self._abort_later()

    def write(self, frames: bytes) -> bool:
        """Write encoded frames without waiting; False when the buffer is full or the connection not open."""
        if not self.writable.is_set() or not self._is_open():
            return False
        self.transport.write(frames)
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._owed_pong is not None and self._is_open():
            self.transport.write(self._owed_pong)
        self._owed_pong = None

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    # How it ends

    def keepalive_timeout(self) -> None:
        self.pong_timer = None
        self.pending_ping_payload = None
        self.abort()

    def shutdown(self) -> None:
        """Tell the peer 1012 and wait for its answer, as with any other close."""
        if not self.handshake_complete:
            self.stop_keepalive()
            self.send_500_response()
            self._close()
        elif self._is_open():
            self.conn.send_close(CloseCode.SERVICE_RESTART)
            self._end(CloseCode.SERVICE_RESTART, "")
        else:
            self._abort_later()

    def abort(self) -> None:
        """End the connection now, and have the kernel forget what the peer has not read."""
        if self.disconnected or self._aborted:
            return
        self._aborted = True
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            # Without it the kernel would keep megabytes for a peer that never reads, for minutes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # The kernel would take up to 4 MiB for a peer that does not read, and nobody would notice for long.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        self._control_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._abort_later()

    async def _can_close(self) -> bool:
        """Whether a close frame can be written before long; if not, the connection is ended without one."""
        try:
            async with asyncio.timeout(self.close_timeout):
                await self.writable.wait()
        except TimeoutError:
            self.abort()
            return False
        return True

    def _is_open(self) -> bool:
        return self.conn.state is State.OPEN and not self.disconnected and not self.transport.is_closing()

    def _count_control_frame(self) -> bool:
        now = self.loop.time()
        if now - self._control_since >= 1:
            self._control_since = now
            self._control_frames = 0
        self._control_frames += 1
        if self._control_frames <= MOST_CONTROL_FRAMES:
            return not self._failed
        self._fail(FLOODED, "too many pings")
        return False

    def _fail(self, code: int, reason: str) -> None:
        if not self._failed:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _end(self, code: int, reason: str) -> None:
        """Write the close frame that is due, tell the application, and give the peer a moment to answer."""
        self._ended = self.close_sent = True
        self.stop_keepalive()
        self.frames = []
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # A timer of the base class: while there is one, the end of the application does not close the connection.
        self.close_timer = self.loop.call_later(self.close_timeout, self.abort)

    def _close(self) -> None:
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """`close` waits for what is written to be read, for ever; this ends that wait."""
        if self._linger is None and not self.disconnected:
            self._linger = self.loop.call_later(self.close_timeout, self.abort)


def _is_utf8(fragments: list[bytes]) -> bool:
    try:
        b"".join(fragments).decode()
    except UnicodeDecodeError:
        return False
    return True


def extension(scope: Mapping[str, Any], name: str) -> Callable[..., Any] | None:
    """One of the callables above, where this server runs; None behind another one."""
    found: Callable[..., Any] | None = scope.get("extensions", {}).get(name)
    return found
