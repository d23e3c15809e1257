"""Every statement about the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Text,
    Uuid,
    bindparam,
    case,
    column,
    insert,
    literal,
    or_,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.audit.models import AuditEntry
from chat_api.audit.schemas import AuditActor, AuditEntryRead
from chat_api.kit.models import SCHEMA
from chat_api.kit.pagination import decode_cursor, encode_cursor

# Names to show. The table itself belongs to a layer above.
_users = table("users", column("id", Uuid()), column("username", Text()), schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted. `after` counts itself, `before` does not."""

    actor_id: UUID | None = None
    action: str | None = None
    subject_type: str | None = None
    subject_id: UUID | None = None
    after: datetime | None = None
    before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [
            getattr(AuditEntry, name) == value
            for name in ("actor_id", "action", "subject_type", "subject_id")
            if (value := getattr(self, name)) is not None
        ]
        if self.after is not None:
            found.append(AuditEntry.created_at >= self.after)
        if self.before is not None:
            found.append(AuditEntry.created_at < self.before)
        return found


class AuditRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def add(
        self,
        entry_id: UUID,
        actor_id: UUID | None,
        action: str,
        subject_type: str,
        subject_id: UUID | None,
        details: dict[str, Any],
        moment: datetime,
    ) -> None:
        await self._db.execute(
            insert(AuditEntry).values(
                id=entry_id,
                actor_id=actor_id,
                action=action,
                subject_type=subject_type,
                subject_id=subject_id,
                details=details,
                created_at=moment,
            )
        )

    async def replace(self, erased: UUID, stand_in: UUID) -> int:
        """Put one id in another's place. Details of entries about a person may hold their names, so they go."""
        is_about = AuditEntry.subject_id == erased
        statement = (
            update(AuditEntry)
            .where(or_(AuditEntry.actor_id == erased, is_about))
            .values(
                actor_id=case((AuditEntry.actor_id == erased, stand_in), else_=AuditEntry.actor_id),
                subject_id=case((is_about, stand_in), else_=AuditEntry.subject_id),
                details=literal({}, JSONB),
            )
            .returning(AuditEntry.id)
        )
        return len((await self._db.execute(statement)).all())

    async def page(
        self, wanted: AuditFilter, *, limit: int, cursor: str | None
    ) -> tuple[list[AuditEntryRead], str | None]:
        query = (
            select(AuditEntry, _users.c.username)
            .outerjoin(_users, _users.c.id == AuditEntry.actor_id)
            .where(*wanted.conditions())
            .order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc())
            .limit(bindparam("rows", limit + 1))
        )
        if cursor is not None:
            position = tuple(decode_cursor(cursor, datetime, UUID))
            query = query.where(tuple_(AuditEntry.created_at, AuditEntry.id) < position)
        rows = (await self._db.execute(query)).all()
        items = [_read(entry, username) for entry, username in rows[:limit]]
        return items, encode_cursor(rows[limit - 1][0].created_at, rows[limit - 1][0].id) if len(rows) > limit else None


def _read(entry: AuditEntry, username: str | None) -> AuditEntryRead:
    return AuditEntryRead(
        id=entry.id,
        actor=None if entry.actor_id is None else AuditActor(id=entry.actor_id, username=username),
        action=entry.action,
        subject_type=entry.subject_type,
        subject_id=entry.subject_id,
        details=entry.details,
        created_at=entry.created_at,
    )
