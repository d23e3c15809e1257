"""All rooms of one process: who follows what, and what makes a room look again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

import orjson

from chat_api.config import ApiSettings
from chat_api.kit.db import is_store_down
from chat_api.kit.redis import RedisClients
from chat_api.realtime.events import EventReader, batch_of
from chat_api.realtime.frames import ephemeral
from chat_api.realtime.listener import RedisListener
from chat_api.realtime.presence import People, Presence
from chat_api.realtime.room import Follower, Room
from chat_api.realtime.run_feed import Streams
from chat_api.sessions.hints import Ephemeral, EventsAdded, Hint, PresenceChanged, SessionGone, SessionHints
from shared.logging import get_logger

log = get_logger("realtime.hub")

_CALM = 5
"""With hints, sessions are swept so many times more rarely: only a hint that got lost is found so."""
_CLOSING_SECONDS = 1.0


class Hub:
    """One per process. `start` it before use, `close` it when no socket is left."""

    def __init__(
        self,
        settings: ApiSettings,
        events: EventReader,
        streams: Streams,
        hints: SessionHints,
        redis: RedisClients | None,
    ) -> None:
        self._settings = settings
        self._events = events
        self._streams = streams
        self._hints = hints
        self._rooms: dict[UUID, Room] = {}
        self._presence = Presence(
            None if redis is None else redis.commands,
            hints,
            seconds=settings.presence_seconds,
            changed=self._tell_presence,
        )
        self._listener = (
            None
            if redis is None
            else RedisListener(redis.blocking, hints.origin, heard=self._hear, caught_up=self._caught_up)
        )
        self._unseen: set[UUID] = set()
        self._wakeup = asyncio.Event()
        self._is_closing = False
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._hints.listen(self)
        self._presence.start()
        if self._listener is not None:
            self._listener.start()
        self._sweeper = asyncio.create_task(self._sweep_for_ever(), name="hub-sweeper")

    async def close(self) -> None:
        self._is_closing = True
        self._wakeup.set()
        for room in self._rooms.values():
            room.close()
        if self._sweeper is not None:
            # A statement that is cut costs its connection, so it may end; but one that hangs holds nobody up.
            await asyncio.wait({self._sweeper}, timeout=_CLOSING_SECONDS)
            self._sweeper.cancel()
        await self._presence.close()
        if self._listener is not None:
            await self._listener.close()

    @property
    def room_count(self) -> int:
        return len(self._rooms)

    # -- followers ----------------------------------------------------------------------------------------

    async def join(self, session_id: UUID, follower: Follower, after_seq: int, member_at: int) -> bool:
        """Have a follower told of a session, first of what came after event `after_seq`.

        `member_at` is an event at which the person took part. False when they left meanwhile.
        """
        room = self._rooms.get(session_id)
        if room is None:
            room = Room(session_id, member_at, self._events, self._streams)
            self._rooms[session_id] = room
            if self._listener is not None:
                self._listener.follow(session_id)
        try:
            return await room.join(follower, after_seq, member_at)
        finally:
            self._drop_if_empty(session_id)

    async def present(self, session_id: UUID, user_id: UUID, username: str) -> People:
        """Count one more socket of somebody's as there; returns everybody who is."""
        await self._presence.arrived(session_id, user_id, username)
        return self._presence.of(session_id)

    def presence_since(self, session_id: UUID, known: People) -> list[bytes]:
        """A frame for each person who came or went since `known`, for somebody who has just joined.

        What changed while they joined was told to those who followed then, and they did not yet.
        """
        now = self._presence.of(session_id)
        return [
            _presence_frame(session_id, user_id, username, online=user_id in now)
            for user_id, username in (known | now).items()
            if (user_id in known) != (user_id in now)
        ]

    def leave(self, session_id: UUID, follower: Follower) -> None:
        room = self._rooms.get(session_id)
        if room is not None:
            room.leave(follower)
            self._drop_if_empty(session_id)

    def absent(self, session_id: UUID, user_id: UUID) -> None:
        """Count one socket less."""
        self._presence.left(session_id, user_id)

    def say(self, session_id: UUID, follower: Follower, kind: str, data: bytes) -> None:
        """Pass something ephemeral on to everybody who follows the session, except where it comes from."""
        self._hints.tell(session_id, Ephemeral(follower.connection_id, ephemeral(kind, session_id, data)))

    def _drop_if_empty(self, session_id: UUID) -> None:
        room = self._rooms.get(session_id)
        if room is not None and room.is_empty:
            room.close()
            del self._rooms[session_id]
            if self._listener is not None:
                self._listener.unfollow(session_id)

    # -- hints --------------------------------------------------------------------------------------------

    def heard(self, session_id: UUID, hint: Hint) -> None:
        """A hint of this process."""
        if not isinstance(hint, PresenceChanged):
            self._hear(session_id, hint)

    def _hear(self, session_id: UUID, hint: Hint) -> None:
        room = self._rooms.get(session_id)
        if room is None:
            return
        match hint:
            case EventsAdded():
                room.look(hint.event_seq)
            case SessionGone():
                self._end(room)
            case PresenceChanged():
                self._presence.look(session_id)
            case Ephemeral():
                room.broadcast(batch_of(hint.frame), but=hint.sender)
            case _:
                assert_never(hint)

    def _caught_up(self, session_id: UUID) -> None:
        """From now on every hint is heard; what was added before is found by looking."""
        self._unseen.add(session_id)
        self._wakeup.set()

    def _end(self, room: Room) -> None:
        """The session is gone, and with it the reason to follow it."""
        room.end()
        self._drop_if_empty(room.session_id)

    def _tell_presence(self, session_id: UUID, user_id: UUID, username: str, online: bool) -> None:
        room = self._rooms.get(session_id)
        if room is not None:
            room.broadcast(batch_of(_presence_frame(session_id, user_id, username, online=online)))

    # -- without hints ------------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        """Look at every session that is followed here: a hint may be lost, and without Redis there are none."""
        due_at = 0.0
        while not self._is_closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.ws_sweep_seconds):
                    await self._wakeup.wait()
            self._wakeup.clear()
            unseen, self._unseen = self._unseen, set()
            has_hints = self._listener is not None and self._listener.is_connected
            if not has_hints or time.monotonic() >= due_at:
                unseen = set(self._rooms)
                due_at = time.monotonic() + _CALM * self._settings.ws_sweep_seconds
            await self._sweep([self._rooms[session_id] for session_id in unseen if session_id in self._rooms])

    async def _sweep(self, rooms: Sequence[Room]) -> None:
        if not rooms:
            return
        try:
            positions = await self._events.positions([room.session_id for room in rooms])
            for room in rooms:
                position = positions.get(room.session_id)
                if position is None:
                    self._end(room)
                else:
                    room.look(position)
        except Exception as error:
            # The task's boundary: the next sweep looks again.
            if not is_store_down(error):
                log.exception("hub.sweep_failed")


def _presence_frame(session_id: UUID, user_id: UUID, username: str, *, online: bool) -> bytes:
    data = orjson.dumps({"user_id": str(user_id), "username": username, "online": online})
    return ephemeral("presence", session_id, data)
