"""Indexing what was there before there was an index: some sessions at a time, between what everybody else does."""

from __future__ import annotations

from sqlalchemy import text

from chat_api.kit.db import Database

# The rows are locked for as long as one step takes: what is edited or deleted meanwhile is indexed, or taken out,
# after it, and never before.
_STEP = text(
    """
    WITH place AS (
        SELECT session_id FROM chat.search_backlog FOR UPDATE
    ), next AS MATERIALIZED (
        SELECT s.id, s.owner_id, s.title, s.created_at
        FROM place JOIN chat.sessions s ON s.id > place.session_id ORDER BY s.id LIMIT :sessions
    ), message AS MATERIALIZED (
        SELECT m.session_id, m.created_at, m.seq, next.owner_id, m.role, m.content
        FROM next JOIN chat.messages m ON m.session_id = next.id
        WHERE m.deleted_at IS NULL AND m.status NOT IN ('streaming', 'awaiting_approval') AND m.content <> ''
        FOR SHARE OF m
    ), indexed AS MATERIALIZED (
        SELECT chat.index_text(f.session_id, f.created_at, f.seq, f.owner_id, f.role, f.content)
        FROM (
            SELECT * FROM message
            UNION ALL
            SELECT id, created_at, 0, owner_id, 'title', title FROM next
        ) f
        WHERE NOT EXISTS (
            SELECT 1 FROM chat.message_search i
            WHERE i.session_id = f.session_id AND i.created_at = f.created_at AND i.seq = f.seq
        )
    ), moved AS (
        UPDATE chat.search_backlog SET session_id = (SELECT id FROM next ORDER BY id DESC LIMIT 1)
        WHERE EXISTS (SELECT 1 FROM next)
    ), ended AS (
        DELETE FROM chat.search_backlog WHERE NOT EXISTS (SELECT 1 FROM next)
    )
    SELECT (SELECT count(*) FROM indexed) AS indexed, (SELECT count(*) FROM next) AS sessions
    """
)


class SearchBacklog:
    """Goes on where the last one stopped, whoever it was. Two at once take turns."""

    def __init__(self, database: Database, *, sessions_at_once: int = 20) -> None:
        self._database = database
        self._sessions = sessions_at_once

    async def step(self) -> bool:
        """Index the messages and titles of the next sessions. False when there was nothing left to do."""
        async with self._database.unit() as db:
            done = (await db.execute(_STEP, {"sessions": self._sessions})).one()
        return bool(done.sessions)
