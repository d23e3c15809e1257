"""Tells every process of the chat API that something happened in a session.

A hint says "look again" and carries no truth: who hears it reads the events from PostgreSQL, and who misses it looks
from time to time anyway. Only what is worth nothing a second later (`typing`) travels whole. Each session has a
channel of its own, so that a process hears of the sessions that somebody follows there and of no others.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.db import after_commit
from shared.logging import get_logger

log = get_logger("sessions.hints")

_CHANNEL = b"colloquy:session:"
_DOWN_SECONDS = 1.0
_MOST_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class EventsAdded:
    """The session's events go up to `event_seq` at least."""

    event_seq: int


@dataclass(frozen=True, slots=True)
class SessionGone:
    """The session was deleted."""


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """Somebody came or went."""


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """A frame for everybody who follows the session now, whole. `sender` is the connection that it came from."""

    sender: str
    frame: bytes


Hint = EventsAdded | SessionGone | PresenceChanged | Ephemeral


class HintListener(Protocol):
    def heard(self, session_id: UUID, hint: Hint) -> None:
        """Called on the event loop, from wherever the hint comes. Must not block, and must not raise."""
        ...


class SessionHints:
    """One per process. `start` it before use, `close` it at the end; without Redis only this process hears."""

    def __init__(self, redis: Redis | None) -> None:
        self.origin = uuid4().hex
        """Names this process, so that it does not hear itself."""
        self._redis = redis
        self._listeners: list[HintListener] = []
        self._event_seqs: dict[UUID, int] = {}
        self._others: list[tuple[UUID, Hint]] = []
        self._wakeup = asyncio.Event()
        self._down_until = 0.0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._redis is not None:
            self._task = asyncio.create_task(self._publish_for_ever(self._redis), name="session-hints")

    async def close(self) -> None:
        """Say what is left to be said, and stop."""
        # Not cancelled: a command that is cut half-way costs its connection.
        self._closing = True
        self._wakeup.set()
        if self._task is not None:
            await self._task

    def listen(self, listener: HintListener) -> None:
        self._listeners.append(listener)

    def tell(self, session_id: UUID, hint: Hint) -> None:
        """Tell this process at once, and the others soon. Call it when what it speaks of is committed."""
        for listener in self._listeners:
            listener.heard(session_id, hint)
        if self._redis is None:
            return
        match hint:
            case EventsAdded():
                # Only the latest number matters, however many were added meanwhile.
                self._event_seqs[session_id] = max(hint.event_seq, self._event_seqs.get(session_id, 0))
            case SessionGone() | PresenceChanged() | Ephemeral():
                if len(self._others) < _MOST_WAITING:
                    self._others.append((session_id, hint))
            case _:
                assert_never(hint)
        self._wakeup.set()

    def tell_after_commit(self, db: AsyncSession, session_id: UUID, hint: Hint) -> None:
        """The same, once the unit of work is committed; not at all if it is rolled back."""
        after_commit(db, partial(self.tell, session_id, hint))

    async def _publish_for_ever(self, redis: Redis) -> None:
        while not self._closing:
            await self._wakeup.wait()
            await self._publish(redis)
        # What was said while the last of it was under way.
        await self._publish(redis)

    async def _publish(self, redis: Redis) -> None:
        self._wakeup.clear()
        event_seqs, self._event_seqs = self._event_seqs, {}
        others, self._others = self._others, []
        if time.monotonic() < self._down_until or not (event_seqs or others):
            return  # who listens looks from time to time as long as there is no Redis
        try:
            pipeline = redis.pipeline(transaction=False)
            for session_id, event_seq in event_seqs.items():
                pipeline.publish(channel_of(session_id), encode(EventsAdded(event_seq), self.origin))
            for session_id, hint in others:
                pipeline.publish(channel_of(session_id), encode(hint, self.origin))
            await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            self._down_until = time.monotonic() + _DOWN_SECONDS
            log.warning("hints.unavailable", error=type(error).__name__)
        except Exception:
            # The task's boundary: these are lost, and looked for from time to time, but not those to come.
            log.exception("hints.failed")


def channel_of(session_id: UUID) -> bytes:
    return _CHANNEL + session_id.hex.encode()


def session_of(channel: bytes) -> UUID:
    return UUID(hex=channel.removeprefix(_CHANNEL).decode())


def encode(hint: Hint, origin: str) -> bytes:
    """A hint as it travels: the origin, a letter, and what belongs to it."""
    match hint:
        case EventsAdded():
            body = b"e%d" % hint.event_seq
        case SessionGone():
            body = b"g"
        case PresenceChanged():
            body = b"p"
        case Ephemeral():
            body = b"x" + hint.sender.encode() + b" " + hint.frame
        case _:
            assert_never(hint)
    return origin.encode() + b" " + body


def decode(message: bytes) -> tuple[str, Hint]:
    """The origin and the hint. Raises `ValueError` for what another version may have sent."""
    origin, separator, body = message.partition(b" ")
    kind, rest = body[:1], body[1:]
    if not separator:
        raise ValueError("not a hint")
    if kind == b"e":
        return origin.decode(), EventsAdded(int(rest))
    if kind == b"g":
        return origin.decode(), SessionGone()
    if kind == b"p":
        return origin.decode(), PresenceChanged()
    if kind == b"x":
        sender, _, frame = rest.partition(b" ")
        return origin.decode(), Ephemeral(sender.decode(), frame)
    raise ValueError("a hint of another kind")
