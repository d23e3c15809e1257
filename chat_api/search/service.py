"""Finding what was said, for tools: a model asks, and may tell what it reads to whoever hears its answer."""

from __future__ import annotations

from uuid import UUID

from chat_api.kit.db import Database
from chat_api.search.repository import MessageSearchRepository
from chat_api.search.words import snippet, words_of
from chat_api.sessions.errors import SessionNotFound
from shared.contracts.tools import FoundMessage


class MessageSearch:
    """Looks through the newest 5,000 messages that a person may read, word by word and without an index.

    Deleted messages are not found, nor earlier texts of edited ones.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, user_id: UUID, query: str, *, limit: int, session_id: UUID | None = None
    ) -> list[FoundMessage]:
        """Messages that share words with the query, the best first.

        With a session, only what everybody in it may read: sessions in which all of its participants take part, this
        one among them. Raises `SessionNotFound` where the person does not take part in it.
        """
        async with self._database.unit() as db:
            rows = await MessageSearchRepository(db).find(user_id, session_id, words_of(query), limit=limit)
        if rows is None:
            raise SessionNotFound
        return [
            FoundMessage(
                message_id=row.message_id,
                session_id=row.session_id,
                session_title=row.session_title,
                seq=row.seq,
                role=row.role,
                sender=row.sender,
                created_at=row.created_at,
                snippet=snippet(row.excerpt, begins_inside=row.begins_inside, ends_inside=row.ends_inside),
            )
            for row in rows
        ]
