"""Answers that stop working the moment nobody waits for them.

Starlette's own streaming response neither sends heartbeats nor closes its generator before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

EVENT_STREAM = "text/event-stream"
HEARTBEAT = b": keep-alive\n\n"
STREAM_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "Content-Type": "text/event-stream; charset=utf-8",
}
CLIENT_CLOSED = 499
"""What our own log shows where the client went before the answer: nobody else reads this status."""


def wants_json(accept: str | None) -> bool:
    """Whether a caller asked for one answer in place of a stream."""
    return accept is not None and "application/json" in accept and EVENT_STREAM not in accept


async def while_connected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of the work. Cancels it and raises `ClientDisconnect` when the client goes away first."""
    worker = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise ClientDisconnect
        return worker.result()
    finally:
        watcher.cancel()
        worker.cancel()
        await asyncio.wait({worker, watcher})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStreamResponse(Response):
    """Sends encoded frames as they come, a comment where there is none for a while, and heeds the client's leaving."""

    media_type = EVENT_STREAM

    def __init__(self, frames: AsyncGenerator[bytes], *, heartbeat_seconds: float) -> None:
        self._frames = frames
        self._heartbeat_seconds = heartbeat_seconds
        self.status_code = 200
        self.background = None
        self.init_headers(STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(self._send_all(send), receive)
        except ClientDisconnect:
            return

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        sent_at = loop.time()

        async def beat() -> None:
            while True:
                quiet = loop.time() - sent_at
                if quiet >= self._heartbeat_seconds:
                    await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                    quiet = 0.0
                await asyncio.sleep(self._heartbeat_seconds - quiet)

        heart = asyncio.ensure_future(beat())
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    sent_at = loop.time()
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        finally:
            heart.cancel()
            await asyncio.wait({heart})
        await send({"type": "http.response.body", "body": b""})
