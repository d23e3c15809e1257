"""The list of messages: session by session, the newest session first, and in each the latest message first.

That is the order of their key, read backwards: nothing is sorted, and a million of them need no index of their own. A
page looks at so many messages at most; where a filter leaves too few of them, the page after it goes on.

A text is looked for in the words that are indexed, in the same order, and twice: first in the newest messages, which is
all that it takes for a word that is common; then in the index of words, which has to hand over everything that matches
before the newest of it are known, and is quick for a word that is rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, String, Subquery, and_, func, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.admin.listing import AnyRow, AnySelect, Condition, Slice, Wanted, as_id, estimate
from chat_api.kit.pagination import encode_cursor
from chat_api.messages.models import Message
from chat_api.search.models import SearchableText
from chat_api.search.words import WordIndex
from chat_api.sessions.models import Session
from chat_api.users.models import User

MESSAGES_A_PAGE = 10_000
LONGEST_PREVIEW = 300

_KEY = func.concat(sql_cast(Message.session_id, String), ".", sql_cast(Message.seq, String)).label("id")
_SHORT = (
    _KEY,
    Message.session_id,
    Message.seq,
    Message.role,
    Message.sender_id,
    func.left(Message.content, LONGEST_PREVIEW).label("content"),
    Message.status,
    Message.provider,
    Message.model,
    Message.total_tokens,
    Message.deleted_at,
    Message.created_at,
)


_at = tuple_(Message.session_id, Message.seq)
_LATEST = (Message.session_id.desc(), Message.seq.desc())
_FOUND = (SearchableText.session_id, SearchableText.created_at, SearchableText.seq)


class MessageWalk:
    """A key is the session's id and the message's number, with a dot between them."""

    def __init__(self, messages_a_page: int = MESSAGES_A_PAGE) -> None:
        self._messages_a_page = messages_a_page

    async def page(self, db: AsyncSession, wanted: Wanted) -> Slice:
        session_id = as_id(wanted.text) if wanted.text else None
        if wanted.text and session_id is None:
            return await self._with_words(db, wanted, wanted.text)
        return await self._walk(db, wanted, session_id)

    async def _walk(self, db: AsyncSession, wanted: Wanted, session_id: UUID | None) -> Slice:
        among: list[Condition] = [] if session_id is None else [Message.session_id == session_id]
        position = wanted.position(UUID, int)
        if position is not None:
            among.append(_at < tuple(position))
        seen = select(Message.session_id, Message.seq).where(*among).order_by(*_LATEST)
        end = (await db.execute(seen.offset(self._messages_a_page - 1).limit(1))).one_or_none()
        if end is not None:
            among.append(_at >= tuple(end))
        m = select(*_SHORT).where(*among, _is_wanted(wanted)).order_by(*_LATEST).limit(wanted.limit + 1).subquery("m")
        rows = (await db.execute(_shown(m, "session_id", "seq"))).all()
        following: str | None = None
        if len(rows) > wanted.limit:
            last = rows[wanted.limit - 1]
            following = encode_cursor(wanted.digest, last.session_id, last.seq)
        elif end is not None:
            following = encode_cursor(wanted.digest, *end)
        is_all = wanted.condition is None and not wanted.text
        return Slice(rows[: wanted.limit], following, await estimate(db, "messages") if is_all else None)

    async def _with_words(self, db: AsyncSession, wanted: Wanted, query: str) -> Slice:
        words = await WordIndex(db).asked(query)
        if words is None:
            return Slice([], None)
        # Zero is the title of a session.
        among: list[Condition] = [SearchableText.seq > 0]
        position = wanted.position(UUID, datetime, int)
        if position is not None:
            among.append(tuple_(*_FOUND) < tuple(position))
        rows, end = await self._find_words(db, wanted, among, sql_cast(words, TSQUERY))
        following: str | None = None
        if len(rows) > wanted.limit:
            last = rows[wanted.limit - 1]
            following = encode_cursor(wanted.digest, last.session_id, last.created_at, last.seq)
        elif end is not None:
            following = encode_cursor(wanted.digest, *end)
        return Slice(rows[: wanted.limit], following)

    async def _find_words(
        self, db: AsyncSession, wanted: Wanted, among: Sequence[Condition], words: ColumnElement[Any]
    ) -> tuple[Sequence[AnyRow], AnyRow | None]:
        """A page of messages, and where the next one has to go on looking if this one is not full and not the last."""
        latest = select(*_FOUND, SearchableText.words).where(*among).order_by(*(column.desc() for column in _FOUND))
        near = latest.limit(self._messages_a_page).subquery("near")
        match_near = near.c.words.bool_op("@@")(words)
        rows = await _matching(db, wanted, near, match_near)
        if len(rows) > wanted.limit:
            return rows, None
        end = latest.with_only_columns(*_FOUND).offset(self._messages_a_page - 1).limit(1)
        ended = (await db.execute(end)).one_or_none()
        if ended is None or (wanted.condition is not None and await _are_many(db, wanted, near, match_near)):
            return rows, ended
        every = select(*_FOUND).where(*among, SearchableText.words.bool_op("@@")(words))
        return await _matching(db, wanted, every.cte("every").prefix_with("MATERIALIZED")), None

    async def find(self, db: AsyncSession, keys: Sequence[str]) -> Sequence[AnyRow]:
        places = [place for key in keys if (place := _place(key)) is not None]
        query = (
            select(
                *(column for column in _SHORT if column.name != "content"),
                Message.content,
                Session.title.label("session"),
                User.username.label("sender"),
                Message.id.label("message_id"),
                Message.run_id,
                Message.parent_id,
                Message.prompt_tokens,
                Message.completion_tokens,
                Message.cost,
                Message.latency_ms,
                Message.time_to_first_token_ms,
                Message.tools_used,
                Message.citations,
                Message.attachments,
                Message.reactions,
                Message.error,
                Message.metadata_.label("metadata"),
                Message.edited_at,
            )
            .join(Session, Session.id == Message.session_id)
            .outerjoin(User, User.id == Message.sender_id)
            .where(tuple_(Message.session_id, Message.seq).in_(places))
        )
        return (await db.execute(query)).all()


async def _matching(
    db: AsyncSession, wanted: Wanted, found: Subquery | CTE, *conditions: Condition
) -> Sequence[AnyRow]:
    places = select(found.c.session_id, found.c.created_at, found.c.seq).where(*conditions)
    if wanted.condition is None:
        # What is indexed is there, so that only a page of it has to be looked at. With a filter all of it has.
        latest = (found.c.session_id.desc(), found.c.created_at.desc(), found.c.seq.desc())
        places = places.order_by(*latest).limit(wanted.limit + 1)
    place = places.subquery("place")
    m = (
        select(*_SHORT)
        .join(place, and_(place.c.session_id == Message.session_id, place.c.seq == Message.seq))
        .where(_is_wanted(wanted))
        .order_by(place.c.session_id.desc(), place.c.created_at.desc(), place.c.seq.desc())
        .limit(wanted.limit + 1)
        .subquery("m")
    )
    return (await db.execute(_shown(m, "session_id", "created_at", "seq"))).all()


async def _are_many(db: AsyncSession, wanted: Wanted, near: Subquery, matches: Condition) -> bool:
    """Whether the words are common: then it is the filter that leaves too few, and it has to be walked for."""
    matching = select(near.c.seq).where(matches).limit(wanted.limit + 1).subquery("matching")
    count: int = (await db.execute(select(func.count()).select_from(matching))).scalar_one()
    return count > wanted.limit


def _is_wanted(wanted: Wanted) -> Condition:
    is_there: Condition = Message.deleted_at.is_(None)
    return is_there if wanted.condition is None else and_(is_there, wanted.condition)


def _shown(m: Subquery, *order: str) -> AnySelect:
    """With the names of what its rows point to, the last in the order first."""
    return (
        select(m, Session.title.label("session"), User.username.label("sender"))
        .join(Session, Session.id == m.c.session_id)
        .outerjoin(User, User.id == m.c.sender_id)
        .order_by(*(m.c[name].desc() for name in order))
    )


def _place(key: str) -> tuple[UUID, int] | None:
    session, _, number = key.partition(".")
    session_id = as_id(session)
    if session_id is None or not number.isdecimal() or not number.isascii() or len(number) > 18:
        return None
    return session_id, int(number)
