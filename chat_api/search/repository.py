"""The statement that finds messages, sent and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.search.statements import FIND_MESSAGES
from chat_api.search.words import Word

_LONGEST_MS = 3_000
_FIND = text(FIND_MESSAGES)
_LIMIT_TIME = text("SELECT set_config('statement_timeout', :milliseconds, true)")


class MessageSearchRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def find(
        self, user_id: UUID, session_id: UUID | None, words: Sequence[Word], *, limit: int
    ) -> Sequence[Row[Any]] | None:
        """Rows of `FIND_MESSAGES`; None where the person does not take part in the session."""
        # Texts can be made that are slow to look through. A connection is worth more than what is found in them.
        await self._db.execute(_LIMIT_TIME, {"milliseconds": str(_LONGEST_MS)})
        rows = (
            await self._db.execute(
                _FIND,
                {
                    "user_id": user_id,
                    "session_id": session_id,
                    "words": [word.text for word in words],
                    "patterns": [word.pattern for word in words],
                    "limit": limit,
                },
            )
        ).all()
        if not rows:
            return None
        return [row for row in rows if row.message_id is not None]
