"""Hears the hints of other processes: one connection to Redis, a channel for each session that is followed here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from chat_api.sessions.hints import Hint, channel_of, decode, session_of
from shared.logging import get_logger

log = get_logger("realtime.listener")

_READ_SECONDS = 0.5
_PING_SECONDS = 1.0
_DEAD_SECONDS = 3.0
"""A server that hangs is found by then: sessions are looked at more often without hints."""
_STEADY_SECONDS = 10.0
"""A connection that held for so long was a good one: the next may be made at once."""
_BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0)
_ANY = b"colloquy:anybody"
"""A channel that nobody speaks on: a connection that follows no session still hears that it is alive."""


class RedisListener:
    """`heard` gets the hints of others; `caught_up` each session from whose channel nothing can be missed from now on.

    redis-py's subscriptions do not come back by themselves, so they are made anew, with growing pauses.
    """

    def __init__(
        self, redis: Redis, origin: str, *, heard: Callable[[UUID, Hint], None], caught_up: Callable[[UUID], None]
    ) -> None:
        self._redis = redis
        self._origin = origin
        self._heard = heard
        self._caught_up = caught_up
        self._wanted: set[UUID] = set()
        self._subscribed: set[UUID] = set()
        self._changed = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pubsub: PubSub | None = None
        self.is_connected = False

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen_for_ever(), name="hint-listener"),
            asyncio.create_task(self._keep_channels(), name="hint-channels"),
        ]

    async def close(self) -> None:
        self._closing = True
        self._changed.set()
        if self._pubsub is not None and self.is_connected:
            # The answer wakes the reader, which is not cancelled: a command that is cut costs its connection.
            with contextlib.suppress(RedisError, OSError):
                await self._pubsub.ping()
        await asyncio.gather(*self._tasks)

    def follow(self, session_id: UUID) -> None:
        self._wanted.add(session_id)
        if session_id in self._subscribed:
            # Followed again before it was given up: what was heard meanwhile was for nobody.
            self._caught_up(session_id)
        self._changed.set()

    def unfollow(self, session_id: UUID) -> None:
        self._wanted.discard(session_id)
        self._changed.set()

    async def _listen_for_ever(self) -> None:
        failures = 0
        while not self._closing:
            connected_at = time.monotonic()
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("listener.disconnected", error=type(error).__name__)
            except Exception:
                # The task's boundary: without it this process would hear nothing any more.
                log.exception("listener.failed")
            if time.monotonic() - connected_at > _STEADY_SECONDS:
                failures = 0
            if not self._closing:
                await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(_ANY)
            self._pubsub = pubsub
            self.is_connected = True
            self._changed.set()
            try:
                await self._read(pubsub)
            finally:
                # Before it is closed: whoever subscribes then would open a connection that nobody closes.
                self.is_connected = False
                self._subscribed.clear()

    async def _read(self, pubsub: PubSub) -> None:
        heard_at = pinged_at = time.monotonic()
        while not self._closing:
            message = await pubsub.get_message(timeout=_READ_SECONDS)
            now = time.monotonic()
            if message is not None:
                heard_at = now
                self._take(message)
            elif now - heard_at > _DEAD_SECONDS:
                raise TimeoutError
            elif now - max(heard_at, pinged_at) > _PING_SECONDS:
                pinged_at = now
                await pubsub.ping()

    def _take(self, message: dict[str, Any]) -> None:
        channel: bytes = message["channel"] or b""
        if channel == _ANY or message["type"] not in ("message", "subscribe"):
            return
        session_id = session_of(channel)
        if message["type"] == "subscribe":
            self._caught_up(session_id)
            return
        try:
            origin, hint = decode(message["data"])
            if origin != self._origin:
                self._heard(session_id, hint)
        except ValueError:
            # Of another version of us.
            log.warning("listener.not_understood", session_id=str(session_id))

    async def _keep_channels(self) -> None:
        """Apart from the reading, which waits for long: who starts to follow a session has to hear of it soon."""
        while not self._closing:
            await self._changed.wait()
            self._changed.clear()
            if self._pubsub is None or not self.is_connected:
                continue
            wanted, missing = self._wanted - self._subscribed, self._subscribed - self._wanted
            try:
                await self._set_channels(self._pubsub, wanted, missing)
                continue
            except (RedisError, OSError) as error:
                log.warning("listener.not_subscribed", error=type(error).__name__)
            except Exception:
                # The task's boundary: without it this process would follow nothing any more.
                log.exception("listener.not_subscribed")
            # The reader need not have noticed, or may have connected anew already, without these channels.
            self._subscribed -= wanted
            self._changed.set()
            await asyncio.sleep(_BACKOFF_SECONDS[0])

    async def _set_channels(self, pubsub: PubSub, wanted: set[UUID], missing: set[UUID]) -> None:
        if wanted:
            self._subscribed |= wanted
            await pubsub.subscribe(*map(channel_of, wanted))
        if missing and self.is_connected and pubsub is self._pubsub:
            self._subscribed -= missing
            await pubsub.unsubscribe(*map(channel_of, missing))
