"""Tables of messages and their earlier texts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class MessageStatus(StrEnum):
    COMPLETE = "complete"
    STREAMING = "streaming"
    AWAITING_APPROVAL = "awaiting_approval"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Message(Base):
    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("session_id", "id"),
        CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name="role"),
        CheckConstraint(
            "status IN ('complete', 'streaming', 'awaiting_approval', 'failed', 'cancelled')", name="status"
        ),
        Index(
            "uq_messages_session_id_sender_id_client_id",
            "session_id",
            "sender_id",
            "client_id",
            unique=True,
            postgresql_where=text("client_id IS NOT NULL"),
        ),
        Index(
            "ix_messages_session_id_parent_id",
            "session_id",
            "parent_id",
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
    )

    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[UUID]
    role: Mapped[str]
    sender_id: Mapped[UUID | None] = mapped_column(ForeignKey("chat.users.id"))
    content: Mapped[str]
    parent_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(server_default="complete")
    provider: Mapped[str | None]
    model: Mapped[str | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    total_tokens: Mapped[int | None]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    latency_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    citations: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    attachments: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    reactions: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    tools_used: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    error: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    client_id: Mapped[str | None]
    request_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    edited_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class MessageRevision(Base):
    """An earlier text of an edited message."""

    __tablename__ = "message_revisions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["session_id", "message_id"],
            ["chat.messages.session_id", "chat.messages.id"],
            ondelete="CASCADE",
            name="fk_message_revisions_session_id_message_id_messages",
        ),
    )

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[str]
    written_at: Mapped[datetime]
    replaced_at: Mapped[datetime] = mapped_column(server_default=func.now())
