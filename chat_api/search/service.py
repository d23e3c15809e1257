"""Finding what was said: for people, and for tools, whose model may tell what it reads to whoever hears its answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from sqlalchemy import Row

from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.clients.embeddings import TextEmbedder
from chat_api.kit.db import Database
from chat_api.kit.pagination import InvalidCursor, Page, decode_cursor, encode_cursor
from chat_api.search.errors import SemanticSearchOff
from chat_api.search.fusion import fused
from chat_api.search.query import Term, terms_of, word_terms
from chat_api.search.repository import SearchRepository, Within
from chat_api.search.schemas import FoundItem, SearchMode, found_item
from chat_api.search.snippets import Part, parts_of
from chat_api.sessions.errors import SessionNotFound
from shared.contracts.tools import FoundMessage
from shared.logging import get_logger

log = get_logger("search")

_FUSED = 100
"""Results of each ranking that are put together."""


class MessageSearch:
    """Looks for words, and for meaning, in all messages and titles that a person may read.

    Deleted messages are not found, nor earlier texts of edited ones.
    """

    def __init__(self, database: Database, embedder: TextEmbedder | None = None) -> None:
        """Without an embedder only words are looked for."""
        self._database = database
        self._embedder = embedder

    async def page(
        self, mode: SearchMode, within: Within, query: str, *, limit: int, cursor: str | None
    ) -> Page[FoundItem]:
        """Messages and titles. By words they come newest first, page by page; else the best, on one page.

        Raises `InvalidCursor`, `SemanticSearchOff` and, where meaning alone is asked for, what the embedder does.
        """
        match mode:
            case SearchMode.TEXT:
                return await self._newest(within, query, limit=limit, cursor=cursor)
            case SearchMode.SEMANTIC | SearchMode.HYBRID:
                if cursor is not None:
                    raise InvalidCursor
                find = self._nearest if mode is SearchMode.SEMANTIC else self._by_both
                return Page(items=await find(within, query, limit), next_cursor=None)
            case _:
                assert_never(mode)

    async def _nearest(self, within: Within, query: str, limit: int) -> list[FoundItem]:
        """What is nearest in meaning, at most as far back as vectors are compared."""
        if self._embedder is None:
            raise SemanticSearchOff
        if not query.strip():
            return []
        terms = terms_of(query)
        asked = await self._embedder.embed([query])
        async with self._database.unit() as db:
            rows = await SearchRepository(db).nearest(within, terms, asked.vectors[0], asked.model, limit=limit)
        return [found_item(row, _parts(row, terms), min(1.0, max(0.0, row.score))) for row in rows]

    async def _by_both(self, within: Within, query: str, limit: int) -> list[FoundItem]:
        """By words and by meaning; by words alone where messages are not embedded, or nobody embeds the query now."""
        terms = word_terms(query)
        async with self._database.unit() as db:
            rows = await SearchRepository(db).best(within, terms, limit=_FUSED) or []
        by_words = {(row.session_id, row.seq): row for row in rows}
        items = {place: found_item(row, _parts(row, terms)) for place, row in by_words.items()}
        by_meaning: dict[tuple[UUID, int], float] = {}
        if self._embedder is not None:
            try:
                for item in await self._nearest(within, query, _FUSED):
                    place = (item.session_id, item.seq or 0)
                    by_meaning[place] = item.score or 0.0
                    items.setdefault(place, item)
            except (AgentUnavailable, AgentBrokeOff, AgentRefused) as problem:
                log.info("search.by_words_alone", code=problem.code)
        scores = fused({place: float(row.score) for place, row in by_words.items()}, by_meaning)
        return [items[place].model_copy(update={"score": scores[place]}) for place in list(scores)[:limit]]

    async def _newest(self, within: Within, query: str, *, limit: int, cursor: str | None) -> Page[FoundItem]:
        last = None if cursor is None else _position(cursor)
        terms = terms_of(query)
        if not terms:
            return Page(items=[], next_cursor=None)
        async with self._database.unit() as db:
            rows = await SearchRepository(db).newest(within, terms, last=last, limit=limit + 1)
        items = [found_item(row, _parts(row, terms)) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items=items, next_cursor=None)
        edge = rows[limit - 1]
        return Page(items=items, next_cursor=encode_cursor(edge.created_at, edge.session_id, edge.seq))

    async def find(
        self, user_id: UUID, query: str, *, limit: int, session_id: UUID | None = None
    ) -> list[FoundMessage]:
        """Messages that share words with the query, the best first.

        With a session, only what everybody in it may read: sessions in which all of its participants take part, this
        one among them. Raises `SessionNotFound` where the person does not take part in it.
        """
        terms = word_terms(query)
        async with self._database.unit() as db:
            rows = await SearchRepository(db).best(Within(user_id, asked_in=session_id), terms, limit=limit)
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
                snippet="".join(part.text for part in _parts(row, terms)),
            )
            for row in rows
        ]


def _position(cursor: str) -> tuple[datetime, UUID, int]:
    at, session_id, seq = decode_cursor(cursor, datetime, UUID, int)
    return at, session_id, seq


def _parts(row: Row[Any], terms: Sequence[Term]) -> list[Part]:
    return parts_of(
        row.excerpt,
        row.marked,
        begins_inside=row.begins_inside,
        ends_inside=row.ends_inside,
        also=[term.text for term in terms if not term.is_excluded],
    )
