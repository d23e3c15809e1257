"""Tables of snapshots and of what was said in them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, Numeric, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, Created


class Snapshot(Created, Base):
    """A copy of a session at a moment. `session` holds what its settings were."""

    __tablename__ = "snapshots"
    __table_args__ = (Index("ix_snapshots_session_id_created_at_id", "session_id", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"))
    title: Mapped[str]
    session: Mapped[dict[str, Any]]
    message_count: Mapped[int] = mapped_column(server_default=text("0"))


class SnapshotMessage(Base):
    """A message as it was. `message_id` is the id that it had; `seq` counts 1, 2, 3 … in the snapshot."""

    __tablename__ = "snapshot_messages"
    __table_args__ = (
        Index("ix_snapshot_messages_message_id", "message_id"),
        Index("ix_snapshot_messages_sender_id", "sender_id", postgresql_where=text("sender_id IS NOT NULL")),
    )

    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("chat.snapshots.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    message_id: Mapped[UUID]
    parent_seq: Mapped[int | None]
    role: Mapped[str]
    sender_id: Mapped[UUID | None] = mapped_column(ForeignKey("chat.users.id"))
    content: Mapped[str]
    status: Mapped[str]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    total_tokens: Mapped[int | None]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    latency_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    citations: Mapped[list[Any]] = mapped_column(JSONB)
    attachments: Mapped[list[Any]] = mapped_column(JSONB)
    reactions: Mapped[dict[str, Any]]
    tools_used: Mapped[list[str]] = mapped_column(ARRAY(Text))
    error: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime]
    edited_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
