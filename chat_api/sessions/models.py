"""Tables of sessions, participants and the session's event log."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from chat_api.kit.models import Base, CreatedAndUpdated


class SessionStatus(StrEnum):
    ACTIVE = "active"
    ARCHIVED = "archived"


class ReplyPolicy(StrEnum):
    """When the assistant answers: every message, only when it is named, or not at all."""

    ALWAYS = "always"
    MENTIONED = "mentioned"
    NEVER = "never"


class ParticipantRole(StrEnum):
    OWNER = "owner"
    MEMBER = "member"


class EventType(StrEnum):
    """Durable events of a session; the wire's words."""

    MESSAGE_CREATED = "message.created"
    MESSAGE_UPDATED = "message.updated"
    MESSAGE_DELETED = "message.deleted"
    RUN_STARTED = "run.started"
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_AWAITING_APPROVAL = "run.awaiting_approval"
    TOOL_REQUESTED = "tool.requested"
    TOOL_APPROVAL_REQUIRED = "tool.approval_required"
    TOOL_APPROVED = "tool.approved"
    TOOL_STARTED = "tool.started"
    TOOL_COMPLETED = "tool.completed"
    TOOL_FAILED = "tool.failed"
    TOOL_REJECTED = "tool.rejected"
    REACTION_UPDATED = "reaction.updated"
    READ_UPDATED = "read.updated"
    PARTICIPANT_JOINED = "participant.joined"
    PARTICIPANT_LEFT = "participant.left"
    SESSION_UPDATED = "session.updated"


class Session(CreatedAndUpdated, Base):
    """One conversation. Its row hands out `seq` and `event_seq`, so the order is PostgreSQL's."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("reply_policy IN ('always', 'mentioned', 'never')", name="reply_policy"),
        CheckConstraint("approval_mode IN ('never', 'risky', 'always')", name="approval_mode"),
        CheckConstraint("status IN ('active', 'archived')", name="status"),
        Index("ix_sessions_bot_id", "bot_id", postgresql_where=text("bot_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"), index=True)
    bot_id: Mapped[UUID | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    system_prompt: Mapped[str | None]
    related_session_id: Mapped[UUID | None]
    reply_policy: Mapped[str | None]
    approval_mode: Mapped[str] = mapped_column(server_default="risky")
    status: Mapped[str] = mapped_column(server_default="active")
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    participant_count: Mapped[int] = mapped_column(server_default=text("1"))
    membership_version: Mapped[int] = mapped_column(server_default=text("0"))
    message_count: Mapped[int] = mapped_column(server_default=text("0"))
    last_seq: Mapped[int] = mapped_column(server_default=text("0"))
    last_event_seq: Mapped[int] = mapped_column(server_default=text("0"))
    last_activity_at: Mapped[datetime] = mapped_column(server_default=func.now())

    participants: Mapped[list[Participant]] = relationship(
        lazy="raise", order_by="Participant.joined_at, Participant.user_id", passive_deletes=True
    )


class Participant(Base):
    __tablename__ = "participants"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'member')", name="role"),
        Index("ix_participants_user_id_session_id", "user_id", "session_id"),
    )

    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"), primary_key=True)
    role: Mapped[str]
    last_read_seq: Mapped[int] = mapped_column(server_default=text("0"))
    joined_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SessionEvent(Base):
    """One entry of a session's log. It points at what changed; readers build the payload from the row.

    So a text that was deleted is gone from the log as well, and no message is stored twice.
    """

    __tablename__ = "session_events"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"), primary_key=True)
    event_seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    message_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    tool_execution_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
