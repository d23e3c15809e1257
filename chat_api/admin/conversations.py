"""What administrators do to sessions: archive and unarchive them, and take copies of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from sqlalchemy import select

from chat_api.admin.desk import Admin, Desk
from chat_api.audit.service import AuditLog
from chat_api.kit.db import Database
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import Session, SessionStatus
from chat_api.sessions.service import SessionService
from chat_api.transfer.export import ExportScope, SessionExport, open_export


class ConversationDesk:
    def __init__(self, desk: Desk, database: Database, hints: SessionHints) -> None:
        self._desk = desk
        self._database = database
        self._hints = hints

    async def set_status(self, admin: Admin, session_ids: Sequence[UUID], status: SessionStatus) -> int:
        """Returns how many were not so before. All of them, or with the store away none."""
        action = "session.archived" if status is SessionStatus.ARCHIVED else "session.unarchived"
        async with self._desk.unit() as db:
            # In one order for all who lock several.
            locked = select(Session).where(Session.id.in_(session_ids)).order_by(Session.id).with_for_update()
            changed = [one for one in (await db.execute(locked)).scalars() if one.status != status]
            sessions = SessionService(db, self._desk.clock, self._hints)
            audit = AuditLog(db, self._desk.clock)
            for session in changed:
                await sessions.set_status(session, status)
                await audit.record(admin.id, action, subject_type="session", subject_id=session.id)
        return len(changed)

    async def export(self, admin: Admin, session_ids: Sequence[UUID]) -> AsyncGenerator[bytes]:
        """The sessions as one JSON list, in the format that can be imported, whatever their size.

        It is in the audit log before the first byte leaves. Raises `SessionNotFound`.
        """
        async with self._desk.asking():
            exports = [
                await open_export(self._database, self._desk.clock, ExportScope(session_id, reader_id=None))
                for session_id in session_ids
            ]
        async with self._desk.unit() as db:
            audit = AuditLog(db, self._desk.clock)
            for session_id in session_ids:
                await audit.record(admin.id, "session.exported", subject_type="session", subject_id=session_id)
        return _as_list(exports)


async def _as_list(exports: Sequence[SessionExport]) -> AsyncGenerator[bytes]:
    separator = b"["
    for export in exports:
        yield separator
        async for piece in export.json():
            yield piece
        separator = b","
    yield b"]\n"
