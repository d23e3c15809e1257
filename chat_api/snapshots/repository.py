"""Every statement about snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, bindparam, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.pagination import decode_cursor, encode_cursor
from chat_api.sessions.models import Participant, Session
from chat_api.snapshots import statements as sql
from chat_api.snapshots.models import Snapshot

_STATEMENT_TIMEOUT = "60s"

_COPY = text(sql.COPY_MESSAGES)
_NAMED = text(sql.NAMED_FILES)
_RESTORE = text(sql.RESTORE_MESSAGES).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())), bindparam("files", type_=ARRAY(Uuid()))
)


class SnapshotRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def be_patient(self) -> None:
        """For the statements of this unit that copy a whole session."""
        await self._db.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))

    async def count(self, session_id: UUID) -> int:
        query = select(func.count()).select_from(Snapshot).where(Snapshot.session_id == session_id)
        return (await self._db.execute(query)).scalar_one()

    async def add(self, snapshot: Snapshot) -> None:
        """With a copy of every message of its session, whose row the caller has locked."""
        self._db.add(snapshot)
        await self._db.flush()
        copied = await self._db.execute(_COPY, {"snapshot_id": snapshot.id, "session_id": snapshot.session_id})
        snapshot.message_count = copied.scalar_one()
        await self._db.flush()

    async def of_participant(self, snapshot_id: UUID, user_id: UUID) -> tuple[Snapshot, UUID] | None:
        """A snapshot, locked, and the owner of its session, when the person takes part in that."""
        query = (
            select(Snapshot, Session.owner_id)
            .join(Session, Session.id == Snapshot.session_id)
            .join(Participant, Participant.session_id == Session.id)
            .where(Snapshot.id == snapshot_id, Participant.user_id == user_id)
            .with_for_update(of=Snapshot)
        )
        row = (await self._db.execute(query)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def page(self, session_id: UUID, *, limit: int, cursor: str | None) -> tuple[Sequence[Snapshot], str | None]:
        """The newest first, and the cursor of the next page."""
        query = select(Snapshot).where(Snapshot.session_id == session_id)
        if cursor is not None:
            created_at, snapshot_id = decode_cursor(cursor, datetime, UUID)
            query = query.where(tuple_(Snapshot.created_at, Snapshot.id) < (created_at, snapshot_id))
        query = query.order_by(Snapshot.created_at.desc(), Snapshot.id.desc()).limit(limit + 1)
        found = (await self._db.execute(query)).scalars().all()
        if len(found) <= limit:
            return found, None
        return found[:limit], encode_cursor(found[limit - 1].created_at, found[limit - 1].id)

    async def named_files(self, snapshot_id: UUID) -> list[UUID]:
        return list((await self._db.execute(_NAMED, {"snapshot_id": snapshot_id})).scalars())

    async def restore_messages(
        self, session_id: UUID, snapshot_id: UUID, *, after: int, ids: Sequence[UUID], files: Sequence[UUID]
    ) -> None:
        """The next so many messages into a session, as `ids`."""
        values: dict[str, Any] = {"session_id": session_id, "snapshot_id": snapshot_id, "after": after}
        await self._db.execute(_RESTORE, {**values, "ids": list(ids), "files": list(files)})

    async def delete(self, snapshot_id: UUID) -> None:
        await self._db.execute(delete(Snapshot).where(Snapshot.id == snapshot_id))
