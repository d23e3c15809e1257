"""The index of words, for lists that are looked through by whoever may see all of them."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.search.query import terms_of
from chat_api.search.repository import PREPARE, asked_parameters
from chat_api.search.statements import ASKED

_WORDS = text(f"WITH {ASKED} SELECT CAST(words AS text) FROM asked")  # noqa: S608 - constants


class WordIndex:
    """Knows no owner: what a person may read is `MessageSearch`'s to say."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def asked(self, query: str) -> str | None:
        """What `SearchableText.words` has to match, as PostgreSQL writes a `tsquery`; None where nothing can.

        It is a value and not an expression, so that the planner knows how common its words are. From here on the
        transaction has the settings of a search.
        """
        terms = terms_of(query)
        if not terms:
            return None
        await self._db.execute(PREPARE)
        words: str | None = (await self._db.execute(_WORDS, asked_parameters(terms))).scalar_one()
        return words
