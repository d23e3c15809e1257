"""What the lists of the admin pages show, and by what they are found."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, func, null, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from chat_api.admin.listing import AnyRow, Condition, KeyedListing, SortedBy, as_id
from chat_api.audit.models import AuditEntry
from chat_api.bots.models import Bot
from chat_api.documents.models import Document
from chat_api.sessions.models import Participant, Session
from chat_api.tools.documents import TOOL_COLUMNS
from chat_api.tools.models import ToolExecution
from chat_api.users.models import User

_owner = aliased(User, name="owner")
_actor = aliased(User, name="actor")
_uploader = aliased(User, name="uploader")


def _session_text(wanted: str) -> Condition:
    found = as_id(wanted)
    if found is not None:
        return or_(Session.id == found, Session.owner_id == found)
    return Session.title.icontains(wanted, autoescape=True)


def _user_text(wanted: str) -> Condition:
    found = as_id(wanted)
    if found is not None:
        return User.id == found
    # The beginning of a name is a range of its index.
    return or_(
        func.lower(User.username).startswith(wanted.lower(), autoescape=True),
        func.lower(User.email).startswith(wanted.lower(), autoescape=True),
    )


def _bot_text(wanted: str) -> Condition:
    found = as_id(wanted)
    return or_(Bot.id == found, Bot.owner_id == found) if found else Bot.name.icontains(wanted, autoescape=True)


def _document_text(wanted: str) -> Condition:
    found = as_id(wanted)
    if found is not None:
        return or_(Document.id == found, Document.bot_id == found, Document.uploaded_by == found)
    return Document.name.icontains(wanted, autoescape=True)


def _tool_text(wanted: str) -> Condition:
    found = as_id(wanted)
    if found is not None:
        return or_(ToolExecution.id == found, ToolExecution.session_id == found, ToolExecution.decided_by == found)
    return ToolExecution.tool_name.startswith(wanted, autoescape=True)


def _audit_text(wanted: str) -> Condition:
    found = as_id(wanted)
    if found is not None:
        return or_(AuditEntry.actor_id == found, AuditEntry.subject_id == found)
    return AuditEntry.action.startswith(wanted, autoescape=True)


_SESSION = (
    Session.id,
    Session.title,
    Session.owner_id,
    _owner.username.label("owner"),
    Session.status,
    Session.participant_count,
    Session.message_count,
    Session.last_activity_at,
    Session.created_at,
)
SESSIONS = KeyedListing(
    shown=select(*_SESSION).join(_owner, _owner.id == Session.owner_id),
    detailed=select(
        *_SESSION,
        Session.bot_id,
        Bot.name.label("bot"),
        Session.provider,
        Session.model,
        Session.system_prompt,
        Session.related_session_id,
        Session.reply_policy,
        Session.approval_mode,
        Session.tags,
        Session.metadata_.label("metadata"),
        Session.settings,
        Session.updated_at,
        select(func.array_agg(User.username))
        .join(Participant, Participant.user_id == User.id)
        .where(Participant.session_id == Session.id)
        .correlate(Session)
        .scalar_subquery()
        .label("participants"),
    )
    .join(_owner, _owner.id == Session.owner_id)
    .outerjoin(Bot, Bot.id == Session.bot_id),
    key=Session.id,
    sorts={
        "last_activity_at": SortedBy(Session.last_activity_at),
        "created_at": SortedBy(Session.created_at),
        "message_count": SortedBy(Session.message_count),
        "title": SortedBy(Session.title),
    },
    searched=_session_text,
)

_USER = (
    User.id,
    User.username,
    User.email,
    User.user_type,
    User.plan,
    User.is_admin,
    case((User.is_active, "active"), else_="closed").label("account"),
    User.is_active,
    User.created_at,
)
USERS = KeyedListing(
    shown=select(*_USER),
    detailed=select(
        *_USER,
        User.updated_at,
        select(func.count())
        .select_from(Session)
        .where(Session.owner_id == User.id)
        .correlate(User)
        .scalar_subquery()
        .label("session_count"),
    ),
    key=User.id,
    sorts={"created_at": SortedBy(User.created_at), "username": SortedBy(User.username)},
    searched=_user_text,
)

_BOT = (
    Bot.id,
    Bot.name,
    Bot.owner_id,
    _owner.username.label("owner"),
    Bot.visibility,
    Bot.provider,
    Bot.model,
    Bot.created_at,
)
BOTS = KeyedListing(
    shown=select(*_BOT).join(_owner, _owner.id == Bot.owner_id).where(Bot.deleted_at.is_(None)),
    detailed=select(*_BOT, Bot.description, Bot.system_prompt, Bot.configuration, Bot.updated_at)
    .join(_owner, _owner.id == Bot.owner_id)
    .where(Bot.deleted_at.is_(None)),
    key=Bot.id,
    sorts={"created_at": SortedBy(Bot.created_at), "name": SortedBy(Bot.name)},
    searched=_bot_text,
)

_DOCUMENT = (
    Document.id,
    Document.name,
    Document.bot_id,
    Bot.name.label("bot"),
    Document.uploaded_by,
    _uploader.username.label("uploader"),
    Document.status,
    Document.size_bytes,
    Document.chunk_count,
    Document.created_at,
)
_DOCUMENTS = (
    select(*_DOCUMENT)
    .join(Bot, Bot.id == Document.bot_id)
    .join(_uploader, _uploader.id == Document.uploaded_by)
    .where(Document.deleted_at.is_(None))
)
DOCUMENTS = KeyedListing(
    shown=_DOCUMENTS,
    detailed=_DOCUMENTS.add_columns(Document.content_type, Document.error, Document.version, Document.indexed_at),
    key=Document.id,
    sorts={
        "created_at": SortedBy(Document.created_at),
        "name": SortedBy(Document.name),
        "size_bytes": SortedBy(Document.size_bytes),
    },
    searched=_document_text,
)

_AUDIT = (
    select(
        AuditEntry.id,
        AuditEntry.created_at,
        AuditEntry.actor_id,
        _actor.username.label("actor"),
        AuditEntry.action,
        AuditEntry.subject_type,
        AuditEntry.subject_id,
    )
    .select_from(AuditEntry)
    .outerjoin(_actor, _actor.id == AuditEntry.actor_id)
)
AUDIT = KeyedListing(
    shown=_AUDIT,
    detailed=_AUDIT.add_columns(AuditEntry.details),
    key=AuditEntry.id,
    sorts={"created_at": SortedBy(AuditEntry.created_at)},
    searched=_audit_text,
)

_TOOL_DETAILS = text(f"SELECT {TOOL_COLUMNS} FROM chat.tool_executions t WHERE t.id = ANY (:ids)")  # noqa: S608 - constants


class ToolListing(KeyedListing):
    """Its pages of one thing show what everybody in the session may see: what no log may show is left out there."""

    async def find(self, db: AsyncSession, keys: Sequence[str]) -> Sequence[AnyRow]:
        ids = [found for key in keys if (found := as_id(key)) is not None]
        return (await db.execute(_TOOL_DETAILS, {"ids": ids})).all()


# Sorted by the id, which rises with time: it is the one index over all sessions.
TOOLS = ToolListing(
    shown=select(
        ToolExecution.id,
        ToolExecution.tool_name,
        ToolExecution.source,
        ToolExecution.risk,
        ToolExecution.status,
        ToolExecution.session_id,
        ToolExecution.duration_ms,
        ToolExecution.attempts,
        ToolExecution.created_at,
    ),
    detailed=select(null()),
    key=ToolExecution.id,
    sorts={"created_at": SortedBy(ToolExecution.id, "id")},
    searched=_tool_text,
)
