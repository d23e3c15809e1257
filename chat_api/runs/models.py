"""The table of runs: one answer of the assistant, from queued to its end."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATUSES = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


class Run(Base):
    """`attempt` fences: a process may write only while the attempt it claimed is the current one.

    `progress` is the attempt in which the run last got further: those after it failed. `pending_calls` of its tools
    wait for a decision. Where it waits, or began another round, `stream_position` is the number of the last event of
    its stream and `said_characters` the length of its reply: from there it goes on, in whichever process.

    `requested_by` is who wanted the answer: the sender of the message, or whoever had it answered again. There is no
    foreign key: it would be one more look-up for each message that is sent. `provider` and `model` are those that
    answered or, where none said so, those that were asked; `usage`, `cost` and the times are of all that it took.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("id"),
        CheckConstraint(
            "status IN ('queued', 'running', 'awaiting_approval', 'completed', 'failed', 'cancelled')", name="status"
        ),
        Index(
            "uq_runs_session_id_active",
            "session_id",
            unique=True,
            postgresql_where=text("status IN ('running', 'awaiting_approval')"),
        ),
        Index("ix_runs_waiting", "session_id", "created_at", "id", postgresql_where=text("status = 'queued'")),
        Index("ix_runs_leased", "lease_expires_at", postgresql_where=text("status = 'running'")),
    )

    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    trigger_message_id: Mapped[UUID]
    reply_message_id: Mapped[UUID | None]
    requested_by: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(server_default="queued")
    error: Mapped[dict[str, Any] | None]
    usage: Mapped[dict[str, Any] | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    latency_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    include_related_context: Mapped[bool] = mapped_column(server_default=text("true"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    stream_length: Mapped[int | None]
    pending_calls: Mapped[int] = mapped_column(server_default=text("0"))
    progress: Mapped[int] = mapped_column(server_default=text("0"))
    stream_position: Mapped[int | None]
    said_characters: Mapped[int] = mapped_column(server_default=text("0"))
    expired_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
