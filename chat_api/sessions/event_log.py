"""The session's event log: every durable change, numbered 1, 2, 3 … without gaps.

The number comes from the session row in the statement that inserts the event, so it is part of the
change's own transaction: both happen, or neither.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from chat_api.sessions.hints import EventsAdded, SessionHints
from chat_api.sessions.models import EventType

_APPEND = text(
    """
    WITH numbered AS (
        UPDATE chat.sessions SET last_event_seq = last_event_seq + 1, updated_at = now()
        WHERE id = :session_id RETURNING id, last_event_seq
    )
    INSERT INTO chat.session_events (session_id, event_seq, type, message_id, run_id, data)
    SELECT id, last_event_seq, :type, :message_id, :run_id, :data FROM numbered
    RETURNING event_seq
    """
).bindparams(bindparam("data", type_=JSONB(none_as_null=True)))


class EventLog:
    def __init__(self, db: AsyncSession, hints: SessionHints) -> None:
        self._db = db
        self._hints = hints

    async def append(
        self,
        session_id: UUID,
        kind: EventType,
        *,
        message_id: UUID | None = None,
        run_id: UUID | None = None,
        data: dict[str, Any] | None = None,
    ) -> int | None:
        """Number and store one event; returns its number, or None when the session is gone."""
        result = await self._db.execute(
            _APPEND,
            {
                "session_id": session_id,
                "type": kind.value,
                "message_id": message_id,
                "run_id": run_id,
                "data": data,
            },
        )
        number: int | None = result.scalar_one_or_none()
        if number is not None:
            self._hints.tell_after_commit(self._db, session_id, EventsAdded(number))
        return number
