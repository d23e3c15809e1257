"""Who is there: the people with a socket that follows a session, on whichever process.

Each process says of its own people that they are there, again and again, in a sorted set of Redis by the time until
which that holds. A process that died says it no more, so its people are gone soon. Without Redis only the people of
this process are known.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chat_api.sessions.hints import PresenceChanged, SessionHints
from shared.logging import get_logger

log = get_logger("realtime.presence")

People = dict[UUID, str]
"""Usernames by id."""

_KEY = "colloquy:presence:"
_ROUNDS_PER_LIFE = 3
"""How often a process says that its people are there, within the time for which it holds."""
_SESSIONS_AT_ONCE = 200
"""That many sessions are asked for in one go: more would hold up Redis, and this process, for everybody else."""
_PATIENCE_SECONDS = 1.0
_DOWN_SECONDS = 1.0
"""After a failure nobody waits for Redis for so long."""
_SAY = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1]) * 2000))
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
"""(seconds, members…) → everybody who is there. By Redis's clock: those of the processes may differ."""


@dataclass(slots=True)
class _Here:
    """Somebody's sockets on this process."""

    username: str
    sockets: int = 0


class Presence:
    """`changed` is called with (session, person, username, online) for each change that this process notices.

    `seconds` is how long somebody counts as there after the last word of their process.
    """

    def __init__(
        self,
        redis: Redis | None,
        hints: SessionHints,
        *,
        seconds: float,
        changed: Callable[[UUID, UUID, str, bool], None],
    ) -> None:
        self._redis = redis
        self._hints = hints
        self._seconds = seconds
        self._changed = changed
        self._here: dict[UUID, dict[UUID, _Here]] = {}
        self._known: dict[UUID, People] = {}
        self._to_look_at: set[UUID] = set()
        self._to_announce: set[UUID] = set()
        self._leaving: list[tuple[UUID, str]] = []
        self._last_answer = time.monotonic()
        self._down_until = 0.0
        self._asked = asyncio.Event()
        """Set when the next round is over."""
        self._wakeup = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._redis is not None:
            self._task = asyncio.create_task(self._run(self._redis), name="presence")

    async def close(self) -> None:
        """Take back what was said of this process's people: they are not here any more."""
        for session_id, people in list(self._here.items()):
            for user_id in list(people):
                self._forget(session_id, user_id)
        # Not cancelled: a command that is cut half-way costs its connection.
        self._closing = True
        self._wakeup.set()
        if self._task is not None:
            await self._task

    def of(self, session_id: UUID) -> People:
        """Who is there, as far as this process knows."""
        return dict(self._known.get(session_id, {}))

    async def arrived(self, session_id: UUID, user_id: UUID, username: str) -> None:
        """Somebody follows a session with one more socket. Afterwards `of` knows the others too, if Redis is quick."""
        is_first_follower = session_id not in self._here
        somebody = self._here.setdefault(session_id, {}).setdefault(user_id, _Here(username))
        somebody.sockets += 1
        if somebody.sockets > 1:
            return
        self._learn(session_id, self.of(session_id) | {user_id: username})
        self._announce(session_id)
        if is_first_follower and self._task is not None and not self._closing and time.monotonic() >= self._down_until:
            # Not asked from here: answers that overtake each other would have people come and go.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._asked.wait()

    def left(self, session_id: UUID, user_id: UUID) -> None:
        """One socket of somebody's follows a session no more."""
        somebody = self._here.get(session_id, {}).get(user_id)
        if somebody is None:
            return
        somebody.sockets -= 1
        if somebody.sockets == 0:
            self._forget(session_id, user_id)

    def look(self, session_id: UUID) -> None:
        """Somebody may have come or gone elsewhere."""
        self._to_look_at.add(session_id)
        self._wakeup.set()

    def _forget(self, session_id: UUID, user_id: UUID) -> None:
        people = self._here[session_id]
        somebody = people.pop(user_id)
        if not people:
            del self._here[session_id]
        if self._redis is None:
            self._learn(session_id, {})
        if session_id not in self._here:
            self._known.pop(session_id, None)
        self._announce(session_id, leaving=self._member(user_id, somebody.username))

    def _announce(self, session_id: UUID, leaving: str | None = None) -> None:
        if self._redis is None:
            return  # there is nobody to tell, and nothing that would forget it again
        if leaving is not None:
            self._leaving.append((session_id, leaving))
        self._to_announce.add(session_id)
        self.look(session_id)

    async def _run(self, redis: Redis) -> None:
        round_seconds = self._seconds / _ROUNDS_PER_LIFE
        due_at = time.monotonic() + round_seconds
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_at - time.monotonic()):
                    await self._wakeup.wait()
            if time.monotonic() >= due_at:
                # All that are followed here, however much is asked for in between: that keeps our people there.
                due_at = time.monotonic() + round_seconds
                self._to_look_at |= set(self._here)
            await self._round(redis)
        # What was taken back while the last round was under way.
        await self._round(redis)

    async def _round(self, redis: Redis) -> None:
        """Say who is here, take back who is not, and learn who is elsewhere."""
        self._wakeup.clear()
        session_ids, self._to_look_at = list(self._to_look_at), set()
        announced, self._to_announce = self._to_announce, set()
        asked, self._asked = self._asked, asyncio.Event()
        try:
            for start in range(0, max(len(session_ids), 1), _SESSIONS_AT_ONCE):
                await self._ask(redis, session_ids[start : start + _SESSIONS_AT_ONCE])
            for session_id in announced:
                self._hints.tell(session_id, PresenceChanged())
        except (RedisError, OSError) as error:
            self._missed(error)
        except Exception:
            # The task's boundary: who is there is asked again soon.
            log.exception("presence.failed")
        finally:
            asked.set()

    async def _ask(self, redis: Redis, session_ids: Collection[UUID]) -> None:
        leaving, self._leaving = self._leaving, []
        asked = [session_id for session_id in session_ids if session_id in self._here]
        pipeline = redis.pipeline(transaction=False)
        for session_id, member in leaving:
            pipeline.zrem(_KEY + session_id.hex, member)
        for session_id in asked:
            members = [self._member(user_id, here.username) for user_id, here in self._here[session_id].items()]
            pipeline.eval(_SAY, 1, _KEY + session_id.hex, str(self._seconds), *members)
        if not leaving and not asked:
            return
        results = await pipeline.execute()
        self._last_answer = time.monotonic()
        for session_id, members in zip(asked, results[len(leaving) :], strict=True):
            self._learn(session_id, _people(members))

    def _missed(self, error: Exception) -> None:
        """Believe what was said as long as it was to hold; then only what this process knows by itself."""
        log.warning("presence.unavailable", error=type(error).__name__)
        self._down_until = time.monotonic() + _DOWN_SECONDS
        if time.monotonic() - self._last_answer > self._seconds:
            for session_id in list(self._here):
                self._learn(session_id, {})

    def _learn(self, session_id: UUID, people: People) -> None:
        here = self._here.get(session_id)
        if here is None:
            return
        people = people | {user_id: somebody.username for user_id, somebody in here.items()}
        before = self._known.get(session_id, {})
        self._known[session_id] = people
        for user_id, username in people.items():
            if user_id not in before:
                self._changed(session_id, user_id, username, True)
        for user_id, username in before.items():
            if user_id not in people:
                self._changed(session_id, user_id, username, False)

    def _member(self, user_id: UUID, username: str) -> str:
        return f"{user_id.hex}:{self._hints.origin}:{username}"


def _people(members: Iterable[bytes]) -> People:
    people: People = {}
    for member in members:
        with contextlib.suppress(ValueError):  # of another version of us
            user_id, _, username = member.decode().split(":", 2)
            people[UUID(hex=user_id)] = username
    return people
