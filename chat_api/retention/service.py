"""Tidying up: idle sessions are archived, and those that their owner's plan keeps no longer are removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.audit.service import AuditLog
from chat_api.config import DEFAULT_PLAN, ApiSettings
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.retention.repository import Batch, RetentionRepository
from chat_api.sessions.hints import EventsAdded, SessionGone, SessionHints
from shared.logging import get_logger

log = get_logger("retention")

_ARCHIVED_AT_ONCE = 1_000
_REMOVED_AT_ONCE = 100
"""Sessions looked at in one transaction: all that is in them goes with them."""

_FIRST = UUID(int=0)


class Progress(Protocol):
    """What a long walk tells how far it is."""

    def update(self, n_steps: int, /) -> None: ...


class Retention:
    """Each batch is a unit of its own, with its entry in the audit log: what was done stays done, and is on record."""

    def __init__(self, database: Database, hints: SessionHints, settings: ApiSettings, clock: Clock) -> None:
        self._database = database
        self._hints = hints
        self._plans = settings.plans
        self._clock = clock

    async def archive_idle(
        self,
        days: int,
        *,
        actor_id: UUID | None = None,
        dry_run: bool = False,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Archive active sessions without a message for so many days; returns how many there are.

        It stops after the batch in which `most` were reached.
        """
        idle_before = self._clock.now() - timedelta(days=days)

        async def one(db: AsyncSession, after: UUID) -> Batch:
            batch = await RetentionRepository(db).idle(after, _ARCHIVED_AT_ONCE, idle_before, dry_run=dry_run)
            if batch.sessions and not dry_run:
                await AuditLog(db, self._clock).record(
                    actor_id,
                    "sessions.archived",
                    subject_type="sessions",
                    details={"days_old": days, "sessions": len(batch.sessions)},
                )
                for session_id, event_seq in zip(batch.sessions, batch.event_seqs, strict=True):
                    self._hints.tell_after_commit(db, session_id, EventsAdded(event_seq))
            return batch

        found = await self._walk(one, most=most, progress=progress)
        log.info("sessions.archived", sessions=found, days=days, dry_run=dry_run)
        return found

    async def remove_expired(self, *, dry_run: bool = False, progress: Progress | None = None) -> int:
        """Remove sessions that were idle for longer than their owner's plan keeps them; returns how many there are."""
        cutoffs = self._cutoffs(self._clock.now())
        if not cutoffs:
            return 0

        async def one(db: AsyncSession, after: UUID) -> Batch:
            batch = await RetentionRepository(db).expired(
                after,
                _REMOVED_AT_ONCE,
                cutoffs,
                plans=list(self._plans),
                default_plan=DEFAULT_PLAN,
                dry_run=dry_run,
            )
            if batch.sessions and not dry_run:
                await AuditLog(db, self._clock).record(
                    None, "sessions.expired", subject_type="sessions", details={"sessions": len(batch.sessions)}
                )
                for session_id in batch.sessions:
                    self._hints.tell_after_commit(db, session_id, SessionGone())
            return batch

        found = await self._walk(one, most=None, progress=progress)
        log.info("sessions.expired", sessions=found, dry_run=dry_run)
        return found

    async def count(self) -> int:
        """About how many sessions there are to look at, for who watches."""
        row = await self._database.fetch_row("SELECT count(*) AS sessions FROM chat.sessions")
        return 0 if row is None else int(row["sessions"])

    def _cutoffs(self, now: datetime) -> dict[str, datetime]:
        return {
            name: now - timedelta(days=plan.retention_days)
            for name, plan in self._plans.items()
            if plan.retention_days is not None
        }

    async def _walk(
        self,
        one: Callable[[AsyncSession, UUID], Awaitable[Batch]],
        *,
        most: int | None,
        progress: Progress | None,
    ) -> int:
        after: UUID | None = _FIRST
        found = 0
        while after is not None and (most is None or found < most):
            async with self._database.unit() as db:
                batch = await one(db, after)
            found += len(batch.sessions)
            after = batch.last
            if progress is not None:
                progress.update(batch.looked_at)
        return found
