"""The list of messages: session by session, those with the latest activity first, and in each the latest message first.

Messages are found by their session, so a walk along the sessions needs no index of its own over a million of them. A
page looks at so many sessions at most; where they hold too little, the page after it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import String, and_, func, or_, select, true, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.admin.listing import AnyRow, Condition, Slice, Wanted, as_id, estimate
from chat_api.kit.pagination import encode_cursor
from chat_api.messages.models import Message
from chat_api.sessions.models import Session
from chat_api.users.models import User

SESSIONS_A_PAGE = 500
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


class MessageWalk:
    """A key is the session's id and the message's number, with a dot between them."""

    def __init__(self, sessions_a_page: int = SESSIONS_A_PAGE) -> None:
        self._sessions_a_page = sessions_a_page

    async def page(self, db: AsyncSession, wanted: Wanted) -> Slice:
        position = wanted.position(datetime, UUID, int)
        among = select(Session.id, Session.title, Session.last_activity_at)
        conditions: list[Condition] = [Message.deleted_at.is_(None)]
        if wanted.condition is not None:
            conditions.append(wanted.condition)
        session_id = as_id(wanted.text) if wanted.text else None
        if session_id is not None:
            among = among.where(Session.id == session_id)
        elif wanted.text:
            conditions.append(Message.content.icontains(wanted.text, autoescape=True))
        if position is not None:
            activity, last_session, last_seq = position
            place = tuple_(Session.last_activity_at, Session.id)
            among = among.where(place <= (activity, last_session) if last_seq else place < (activity, last_session))
            # Of the session in which the page before ended, what comes after it.
            conditions.append(or_(Message.session_id != last_session, Message.seq < last_seq))
        latest = (Session.last_activity_at.desc(), Session.id.desc())
        s = among.order_by(*latest).limit(self._sessions_a_page).subquery("s")
        m = (
            select(*_SHORT)
            .where(Message.session_id == s.c.id, and_(*conditions))
            .order_by(Message.seq.desc())
            .limit(wanted.limit + 1)
            .lateral("m")
        )
        query = (
            select(m, s.c.title.label("session"), s.c.last_activity_at, User.username.label("sender"))
            .select_from(s.join(m, true()).outerjoin(User, User.id == m.c.sender_id))
            .order_by(s.c.last_activity_at.desc(), s.c.id.desc(), m.c.seq.desc())
            .limit(wanted.limit + 1)
        )
        rows = (await db.execute(query)).all()
        if len(rows) > wanted.limit:
            last = rows[wanted.limit - 1]
            following: str | None = encode_cursor(wanted.digest, last.last_activity_at, last.session_id, last.seq)
        else:
            end = select(s.c.last_activity_at, s.c.id).order_by(s.c.last_activity_at, s.c.id)
            ends = (await db.execute(end.limit(1))).one_or_none()
            seen = (await db.execute(select(func.count()).select_from(s))).scalar_one()
            more = ends is not None and seen == self._sessions_a_page
            following = encode_cursor(wanted.digest, *ends, 0) if ends is not None and more else None
        is_all = wanted.condition is None and not wanted.text
        return Slice(rows[: wanted.limit], following, await estimate(db, "messages") if is_all else None)

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


def _place(key: str) -> tuple[UUID, int] | None:
    session, _, number = key.partition(".")
    session_id = as_id(session)
    if session_id is None or not number.isdecimal() or not number.isascii() or len(number) > 18:
        return None
    return session_id, int(number)
