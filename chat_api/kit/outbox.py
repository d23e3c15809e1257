"""Work for later, stored in the commit that makes it necessary: nothing accepted is forgotten, whatever dies next.

A row is due when its `available_at` has come. To claim it is to push that into the future: the lease. A worker that
dies stops pushing, so the row is due again by itself; one that was only frozen finds that `attempt` has moved on,
and `hold` and `settle` let it write nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Index, and_, delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.db import Database
from chat_api.kit.models import Base, new_id
from shared.logging import request_id_var

_DUE = """
SELECT id, attempt, created_at FROM chat.outbox
WHERE available_at <= now() AND topic = ANY($1)
ORDER BY id LIMIT $2
"""

_CLAIM = """
UPDATE chat.outbox
SET attempt = attempt + 1, lease_owner = $2, available_at = now() + make_interval(secs => $3)
WHERE id = $1 AND available_at <= now()
RETURNING topic, subject_id, payload, request_id, attempt
"""

_EXTEND = """
UPDATE chat.outbox SET available_at = now() + make_interval(secs => $4)
WHERE id = $1 AND attempt = $2 AND lease_owner = $3
RETURNING id
"""

_GIVE_BACK = """
UPDATE chat.outbox
SET lease_owner = NULL, available_at = now() + make_interval(secs => $4), payload = payload || $5::jsonb
WHERE id = $1 AND attempt = $2 AND lease_owner = $3
RETURNING id
"""

_LAST_PROBLEM = "last_problem"


class OutboxEntry(Base):
    """One thing to do. `attempt` counts its starts, and fences: it only ever rises."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_available_at_id", "available_at", "id"),
        Index("ix_outbox_subject_id", "subject_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    topic: Mapped[str]
    subject_id: Mapped[UUID]
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    request_id: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    lease_owner: Mapped[str | None]
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Outbox:
    """Puts work for later into the caller's unit of work: it is due once that commits, and never was if it does not."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def put(
        self, topic: str, subject_id: UUID, payload: dict[str, Any] | None = None, *, after: timedelta = timedelta(0)
    ) -> UUID:
        """Returns the entry's id. The current request's id goes with it, to the worker's log and to the agent.

        It is due `after` so long.
        """
        entry_id = new_id()
        await self._db.execute(
            insert(OutboxEntry).values(
                id=entry_id,
                topic=topic,
                subject_id=subject_id,
                payload=payload or {},
                request_id=request_id_var.get(),
                available_at=func.now() + after,
            )
        )
        return entry_id


class LeaseLost(Exception):
    """Somebody else has the job now, or it is done: whatever was about to be written must not be."""


@dataclass(frozen=True, slots=True)
class Due:
    """An entry that may be claimed, and how often it was before."""

    id: UUID
    attempt: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed entry: the right to do it, as long as the row still names this attempt and this owner."""

    id: UUID
    topic: str
    subject_id: UUID
    payload: dict[str, Any]
    request_id: str | None
    attempt: int
    owner: str
    lease_seconds: float

    @property
    def last_problem(self) -> dict[str, Any] | None:
        """What was in the way of the attempt before, as a problem document."""
        problem = self.payload.get(_LAST_PROBLEM)
        return problem if isinstance(problem, dict) else None


class Jobs:
    """The worker's side of the outbox. Each call is one statement in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, topics: Collection[str], limit: int) -> list[Due]:
        """The entries of these topics that are due, the oldest first: what was begun is not put behind the rest."""
        rows = await self._database.fetch_rows(_DUE, list(topics), limit)
        return [Due(row["id"], row["attempt"], row["created_at"]) for row in rows]

    async def claim(self, entry_id: UUID, owner: str, lease_seconds: float) -> Job | None:
        """Lease an entry. None when it is not due: somebody else has it, it is done, or it waits."""
        row = await self._database.fetch_row(_CLAIM, entry_id, owner, lease_seconds)
        if row is None:
            return None
        return Job(
            id=entry_id,
            topic=row["topic"],
            subject_id=UUID(str(row["subject_id"])),
            payload=row["payload"],
            request_id=row["request_id"],
            attempt=row["attempt"],
            owner=owner,
            lease_seconds=lease_seconds,
        )

    async def extend(self, job: Job) -> bool:
        """Renew the lease from now on. False when it was lost."""
        row = await self._database.fetch_row(_EXTEND, job.id, job.attempt, job.owner, job.lease_seconds)
        return row is not None

    async def retry(self, job: Job, after_seconds: float, problem: dict[str, Any] | None = None) -> bool:
        """Give the lease back: the entry is due in `after_seconds`. False when the lease was lost.

        `problem` is what was in the way; the next attempt finds it as `last_problem`.
        """
        noted = {} if problem is None else {_LAST_PROBLEM: problem}
        row = await self._database.fetch_row(_GIVE_BACK, job.id, job.attempt, job.owner, after_seconds, noted)
        return row is not None


async def settle(db: AsyncSession, job: Job) -> bool:
    """Take the entry out, in the unit that writes its result. False when the lease was lost: write nothing then.

    The row stays locked until the unit ends, so nobody claims it in between.
    """
    statement = delete(OutboxEntry).where(_still_ours(job)).returning(OutboxEntry.id)
    return (await db.execute(statement)).scalar_one_or_none() is not None


async def hold(db: AsyncSession, job: Job) -> bool:
    """Lock the entry for a write that does not end it. False when the lease was lost: write nothing then."""
    statement = select(OutboxEntry.id).where(_still_ours(job)).with_for_update()
    return (await db.execute(statement)).scalar_one_or_none() is not None


def _still_ours(job: Job) -> ColumnElement[bool]:
    return and_(OutboxEntry.id == job.id, OutboxEntry.attempt == job.attempt, OutboxEntry.lease_owner == job.owner)
