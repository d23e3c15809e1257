"""The statements that find messages, sent and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.search.query import Term
from chat_api.search.statements import FIND_BY_MEANING, FIND_BY_WORDS, LANGUAGES
from chat_api.search.tool_statements import FIND_FOR_TOOL

_LONGEST_MS = 3_000
_BY_WORDS = text(FIND_BY_WORDS)
_BY_MEANING = text(FIND_BY_MEANING)
_FOR_TOOL = text(FIND_FOR_TOOL)
PREPARE = text(
    f"""
    SELECT set_config('statement_timeout', '{_LONGEST_MS}', true),
        -- The indexes are what makes it quick, whatever the planner believes of a word that it knows nothing of.
        set_config('enable_seqscan', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
        -- Half a million places of a common word have to fit, or whole pages are read instead.
        set_config('work_mem', '32MB', true),
        -- What is looked for is mostly in memory, and hardly ever all that there is.
        set_config('random_page_cost', '1.1', true),
        set_config('plan_cache_mode', 'force_custom_plan', true)
    """
)
"""Of this transaction alone. Words can be put together that are slow to look for: a connection is worth more."""


@dataclass(frozen=True, slots=True)
class Within:
    """What is searched. A message is `after` or at the first moment, and `before` the second."""

    user_id: UUID
    session_id: UUID | None = None
    bot_id: UUID | None = None
    role: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    asked_in: UUID | None = None
    """Only what everybody in this session may read."""

    def parameters(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "own": self.session_id is None and self.bot_id is None and self.asked_in is None,
            "session_id": self.session_id,
            "bot_id": self.bot_id,
            "asked_in": self.asked_in,
            "role": self.role,
            "after": self.after,
            "before": self.before,
        }


class SearchRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def newest(
        self, within: Within, terms: Sequence[Term], *, last: tuple[datetime, UUID, int] | None, limit: int
    ) -> Sequence[Row[Any]]:
        """Rows of `FIND_BY_WORDS`, those after `last`."""
        await self._db.execute(PREPARE)
        parameters = within.parameters() | _asked(terms, limit) | _after(last)
        return (await self._db.execute(_BY_WORDS, parameters)).all()

    async def nearest(
        self, within: Within, terms: Sequence[Term], vector: Sequence[float], model: str, *, limit: int
    ) -> Sequence[Row[Any]]:
        """Rows of `FIND_BY_MEANING`; the terms are only marked."""
        await self._db.execute(PREPARE)
        parameters = within.parameters() | _asked(terms, limit) | _after(None)
        return (await self._db.execute(_BY_MEANING, parameters | {"vector": list(vector), "model": model})).all()

    async def best(self, within: Within, terms: Sequence[Term], *, limit: int) -> Sequence[Row[Any]] | None:
        """Rows of `FIND_FOR_TOOL`; None where the person does not take part in the session in which it is asked."""
        await self._db.execute(PREPARE)
        parameters = within.parameters() | _asked(terms, limit) | _after(None)
        rows = (await self._db.execute(_FOR_TOOL, parameters)).all()
        if not rows:
            return None
        return [row for row in rows if row.message_id is not None]


def _after(last: tuple[datetime, UUID, int] | None) -> dict[str, Any]:
    at, session_id, seq = last or (None, None, None)
    return {"last_at": at, "last_session": session_id, "last_seq": seq}


def asked_parameters(terms: Sequence[Term]) -> dict[str, Any]:
    """Those of `ASKED`."""
    return {
        "texts": [term.text for term in terms],
        "prefixes": [term.is_prefix for term in terms],
        "exclusions": [term.is_excluded for term in terms],
        "languages": list(LANGUAGES),
    }


def _asked(terms: Sequence[Term], limit: int) -> dict[str, Any]:
    marks = [term.text.lower() for term in terms if not term.is_excluded]
    return asked_parameters(terms) | {"marks": marks, "limit": limit}
