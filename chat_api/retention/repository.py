"""Runs the statements of the clean-up, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.retention import statements as sql

ARCHIVED = '{"fields": ["status"], "changes": {"status": "archived"}}'
"""What the event says, the same as of a session that its owner archives."""

_COUNT_IDLE = text(sql.COUNT_IDLE)
_ARCHIVE_IDLE = text(sql.ARCHIVE_IDLE)
_COUNT_EXPIRED = text(sql.COUNT_EXPIRED)
_REMOVE_EXPIRED = text(sql.REMOVE_EXPIRED)
_LIMIT_TIME = text("SELECT set_config('statement_timeout', '600000', true)")


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch. `last` is where the next begins; None at the end."""

    looked_at: int
    last: UUID | None
    sessions: Sequence[UUID]
    event_seqs: Sequence[int]


class RetentionRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def idle(self, after: UUID, limit: int, idle_before: datetime, *, dry_run: bool) -> Batch:
        """Archive what is active and idle since then, or only find it."""
        wanted: dict[str, Any] = {"after": after, "limit": limit, "idle_before": idle_before}
        if dry_run:
            return await self._batch(_COUNT_IDLE, wanted)
        return await self._batch(_ARCHIVE_IDLE, wanted | {"data": ARCHIVED})

    async def expired(
        self,
        after: UUID,
        limit: int,
        cutoffs: Mapping[str, datetime],
        *,
        plans: Sequence[str],
        default_plan: str,
        dry_run: bool,
    ) -> Batch:
        """Remove what is idle since before the cutoff of its owner's plan, or only find it."""
        await self._db.execute(_LIMIT_TIME)
        statement = _COUNT_EXPIRED if dry_run else _REMOVE_EXPIRED
        return await self._batch(
            statement,
            {
                "after": after,
                "limit": limit,
                "plans": list(cutoffs),
                "cutoffs": list(cutoffs.values()),
                "known": list(plans),
                "default_plan": default_plan,
            },
        )

    async def _batch(self, statement: TextClause, wanted: dict[str, Any]) -> Batch:
        row = (await self._db.execute(statement, wanted)).one()
        is_last = row.looked_at < wanted["limit"]
        return Batch(row.looked_at, None if is_last else row.last, row.sessions, row.event_seqs)
