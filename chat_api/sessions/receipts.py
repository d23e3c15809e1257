"""Read receipts: how far each participant has read."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chat_api.kit.db import Database
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.hints import EventsAdded, SessionHints
from chat_api.sessions.schemas import ParticipantRead

_MARK = """
    WITH s AS (
        SELECT s.id, s.last_seq FROM chat.sessions s
        WHERE s.id = $1 AND EXISTS (
            SELECT 1 FROM chat.participants p
            WHERE p.session_id = $1 AND p.user_id = $2 AND p.last_read_seq < least($3::bigint, s.last_seq)
        )
        FOR NO KEY UPDATE
    ), p AS (
        UPDATE chat.participants p SET last_read_seq = least($3::bigint, s.last_seq)
        FROM s
        WHERE p.session_id = s.id AND p.user_id = $2 AND p.last_read_seq < least($3::bigint, s.last_seq)
        RETURNING p.session_id, p.last_read_seq
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 1
        FROM p WHERE sessions.id = p.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, data)
        SELECT n.id, n.last_event_seq, 'read.updated',
            jsonb_build_object('user_id', $2::uuid, 'seq', p.last_read_seq)
        FROM numbered n, p
    )
    SELECT q.user_id, u.username, q.role, coalesce((SELECT last_read_seq FROM p), q.last_read_seq) AS last_read_seq,
        (SELECT last_event_seq FROM numbered) AS event_seq,
        EXISTS (SELECT FROM s) AND NOT EXISTS (SELECT FROM p) AS came_too_late
    FROM chat.participants q JOIN chat.users u ON u.id = q.user_id
    WHERE q.session_id = $1 AND q.user_id = $2
"""
"""($1 session, $2 reader, $3 seq) → the participant, and the number of the event if the mark moved.

A mark that would not move takes no lock. One that waited for the session's row is compared again with the
participant's own, so of two equal ones the second moves nothing and uses up no number: it `came_too_late`, and what
it read of the participant is no longer so.
"""


class ReadReceipts:
    def __init__(self, database: Database, hints: SessionHints) -> None:
        self._database = database
        self._hints = hints

    async def mark(self, session_id: UUID, user_id: UUID, seq: int) -> ParticipantRead:
        """Say that somebody has read the messages up to `seq`.

        It never moves back, and a number above the session's last stands for the last. Raises `SessionNotFound`.
        """
        row = await self._move(session_id, user_id, seq)
        if row["came_too_late"]:
            # Who looks again sees what the other one left.
            row = await self._move(session_id, user_id, seq)
        if row["event_seq"] is not None:
            self._hints.tell(session_id, EventsAdded(row["event_seq"]))
        return ParticipantRead(
            user_id=row["user_id"],
            username=row["username"],
            role=row["role"],
            last_read_seq=row["last_read_seq"],
        )

    async def _move(self, session_id: UUID, user_id: UUID, seq: int) -> asyncpg.Record:
        row = await self._database.fetch_row(_MARK, session_id, user_id, seq)
        if row is None:
            raise SessionNotFound
        return row
