"""Sends a socket's frames from a bounded queue, so that nobody ever waits for a slow reader."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from starlette.types import Message, Send

from chat_api.realtime.events import Batch, Outgoing

_EASY_BYTES = 128 * 1024
"""A replay goes on reading once less than this waits to be sent."""


class Closed(Exception):
    """The other side is gone, or was told to go. Not a ConnectionError: that is what a store raises that is away."""


class SocketWriter:
    """`write` puts encoded frames on the connection without waiting, or says False; None behind other servers.

    `too_slow` is called when more than `queue_bytes` wait for the reader.

    Whoever watches the sockets asks `stalled_for` whether the reader takes anything at all.
    """

    def __init__(
        self,
        send: Send,
        *,
        write: Callable[[bytes], bool] | None,
        queue_bytes: int,
        too_slow: Callable[[], None],
    ) -> None:
        self._send = send
        self._write = write
        self._is_idle = True
        self._queue_bytes = queue_bytes
        self._too_slow = too_slow
        self._queue: deque[Outgoing] = deque()
        self._waiting_bytes = 0
        self._wakeup = asyncio.Event()
        self._easy = asyncio.Event()
        self._easy.set()
        self._sending_since: float | None = None
        self._closing: Message | None = None
        self._closed = False

    def put(self, batch: Batch) -> None:
        """Have these sent, after what waits. Never waits, and never fails."""
        if self._closing is not None or self._closed:
            return
        # Nothing waits and the connection takes it: no need to wake anybody.
        if self._is_idle and self._write is not None and self._write(batch.frames):
            return
        # What waited before decides: one large batch is no reason to call a reader slow.
        if self._waiting_bytes > self._queue_bytes:
            self._too_slow()
            return
        self._is_idle = False
        self._queue.extend(batch.messages)
        self._waiting_bytes += len(batch.frames)
        if self._waiting_bytes > _EASY_BYTES:
            self._easy.clear()
        self._wakeup.set()

    def close(self, code: int, reason: str, *, at_once: bool = False) -> None:
        """Close the socket when what waits is sent, or `at_once` without sending it."""
        if self._closing is not None or self._closed:
            return
        if at_once:
            self._queue.clear()
        self._closing = {"type": "websocket.close", "code": code, "reason": reason}
        self._easy.set()
        self._wakeup.set()

    @property
    def is_closing(self) -> bool:
        return self._closing is not None or self._closed

    def stalled_for(self) -> float:
        """Seconds since the reader took the last byte, while there is something to take."""
        return 0.0 if self._sending_since is None else time.monotonic() - self._sending_since

    async def drained(self) -> None:
        """Return when little waits to be sent. Raises `Closed` when the socket is closing."""
        await self._easy.wait()
        if self.is_closing:
            raise Closed

    async def run(self) -> None:
        """Send until the socket is closed, by us or by the other side."""
        queue = self._queue
        try:
            while True:
                while queue:
                    message = queue.popleft()
                    self._waiting_bytes -= len(message["frame"])
                    await self._sent(message)
                self._easy.set()
                if self._closing is not None:
                    await self._sent(self._closing)
                    return
                self._is_idle = True
                self._wakeup.clear()
                await self._wakeup.wait()
        except OSError:
            pass  # the other side is gone, which the reader hears too
        finally:
            self._closed = True
            self._queue.clear()
            self._easy.set()

    async def _sent(self, message: Message) -> None:
        self._sending_since = time.monotonic()
        await self._send(message)
        self._sending_since = None
