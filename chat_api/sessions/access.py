"""Ends what a person hears of a session, as soon as they take part in it no more.

A stream is allowed once, when it is opened, and may last for minutes. Where the removal is committed in this process,
its streams end at once. What other processes did is found by looking: one statement asks for everybody who hears
anything here whether they still take part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.db import Database, after_commit, is_store_down
from chat_api.sessions.hints import Hint, SessionGone, SessionHints
from shared.logging import get_logger

log = get_logger("sessions.access")

Item = TypeVar("Item")

LOOK_SECONDS = 0.5

_LOST = """
    SELECT o.session_id, o.user_id FROM unnest($1::uuid[], $2::uuid[]) AS o (session_id, user_id)
    WHERE NOT EXISTS (
        SELECT 1 FROM chat.participants p WHERE p.session_id = o.session_id AND p.user_id = o.user_id
    )
"""
"""($1 sessions, $2 users) → the pairs that are none any more, also because the session was deleted."""


@dataclass(frozen=True, slots=True)
class Membership:
    """That a person takes part in a session."""

    session_id: UUID
    user_id: UUID


class Members(Protocol):
    """Where the truth about participants is read."""

    async def lost(self, known: Sequence[Membership]) -> list[Membership]:
        """Those that are none any more. Raises what a store that is away raises."""
        ...


class DatabaseMembers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def lost(self, known: Sequence[Membership]) -> list[Membership]:
        rows = await self._database.fetch_rows(_LOST, [one.session_id for one in known], [one.user_id for one in known])
        return [Membership(row["session_id"], row["user_id"]) for row in rows]


class Access:
    """What one stream has to ask. Made by `AccessWatch.open`."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: asyncio.Timeout | None = None

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def while_it_lasts(self, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
        """The items as they come. Stops when the access ends, also in the middle of waiting for the next."""
        while not self.ended:
            try:
                item = await self._next(items)
            except (StopAsyncIteration, _AccessEnded):
                return
            yield item

    async def _next(self, items: AsyncIterator[Item]) -> Item:
        try:
            # It has no deadline until `end` sets one: cheaper for each item than a task that can be cancelled.
            async with asyncio.timeout(None) as self._waiting:
                item = await anext(items)
        except TimeoutError:
            if self.ended:
                raise _AccessEnded from None
            raise
        finally:
            self._waiting = None
        if self.ended:
            raise _AccessEnded
        return item


class _AccessEnded(Exception):
    pass


class AccessWatch:
    """One per process. `start` it before use, `close` it at the end."""

    def __init__(self, members: Members, hints: SessionHints, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._members = members
        self._look_seconds = look_seconds
        self._open: dict[Membership, set[Access]] = {}
        self._used = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        hints.listen(self)

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="access-watch")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def open(self, membership: Membership) -> Iterator[Access]:
        """The access of somebody who was allowed a moment ago, for as long as the block lasts."""
        access = Access()
        together = self._open.setdefault(membership, set())
        together.add(access)
        self._used.set()
        try:
            yield access
        finally:
            together.discard(access)
            if not together and self._open.get(membership) is together:
                del self._open[membership]

    def count(self, membership: Membership) -> int:
        """How many streams somebody has open on a session here."""
        return len(self._open.get(membership, ()))

    def end_after_commit(self, db: AsyncSession, membership: Membership) -> None:
        """End what the person hears of the session here, once the unit of work is committed."""
        after_commit(db, lambda: self._end(membership))

    def heard(self, session_id: UUID, hint: Hint) -> None:
        """As a listener of hints: a session that is deleted ends for everybody."""
        if isinstance(hint, SessionGone):
            for membership in [known for known in self._open if known.session_id == session_id]:
                self._end(membership)

    def _end(self, membership: Membership) -> None:
        for access in self._open.get(membership, ()):
            access.end()

    async def _look_for_ever(self) -> None:
        while True:
            await self._used.wait()
            if not self._open:
                self._used.clear()
                continue
            await asyncio.sleep(self._look_seconds)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - the only one that looks must not die of one bad round
                # With the store away nobody can be removed either.
                level = log.warning if is_store_down(error) else log.error
                level("access.watch_failed", error=type(error).__name__)

    async def _look(self) -> None:
        if self._open:
            for membership in await self._members.lost(list(self._open)):
                self._end(membership)
