"""Writing the audit log, and reading it page by page."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.audit.repository import AuditFilter, AuditRepository
from chat_api.audit.schemas import AuditEntryRead
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.pagination import Page
from shared.logging import get_logger

log = get_logger("audit")


class AuditLog:
    """Entries belong to the caller's unit of work: what was not done is not in the log, and the other way round."""

    def __init__(self, db: AsyncSession, clock: Clock) -> None:
        self._repository = AuditRepository(db)
        self._clock = clock

    async def record(
        self,
        actor_id: UUID | None,
        action: str,
        *,
        subject_type: str,
        subject_id: UUID | None = None,
        details: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Note that somebody did something; `actor_id` is None for what the service did by itself.

        `action` is a noun and what happened to it (`user.closed`), `subject_type` the noun of `subject_id`. `details`
        are for facts, never for a secret, or for the text of a message or a document: entries are kept.
        """
        entry_id = new_id()
        await self._repository.add(
            entry_id, actor_id, action, subject_type, subject_id, dict(details or {}), self._clock.now()
        )
        log.info(
            "audit.recorded",
            entry_id=entry_id,
            actor_id=actor_id,
            action=action,
            subject_type=subject_type,
            subject_id=subject_id,
        )

    async def forget(self, erased_id: UUID, stand_in: UUID) -> int:
        """Put `stand_in` in the place of a person who is being erased, or of something of theirs. Returns how many
        entries there were.

        What a stand-in did can still be told from what others did; who it was cannot. The details of those entries go.
        """
        return await self._repository.replace(erased_id, stand_in)

    async def page(self, wanted: AuditFilter, *, limit: int, cursor: str | None) -> Page[AuditEntryRead]:
        """The newest entries first. Raises `InvalidCursor`."""
        items, next_cursor = await self._repository.page(wanted, limit=limit, cursor=cursor)
        return Page(items=items, next_cursor=next_cursor)
