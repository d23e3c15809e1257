"""The log of tools: one row for each call that a model made."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class ToolStatus(StrEnum):
    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


class ToolExecution(Base):
    """`round` counts the times that the model of a run called tools; `position` is the call's place among those.

    `said_characters` is how long the reply was when the calls were made. `arguments` are those that it runs with;
    where a person changed them, the model's own are in `model_arguments`. `running` is stored before the agent is
    asked to run it: a call of which nobody knows how it ended was running. `requested_by` is its run's: where a
    session is deleted, the run may go first.
    """

    __tablename__ = "tool_executions"
    __table_args__ = (
        UniqueConstraint("id"),
        UniqueConstraint("session_id", "run_id", "call_id"),
        ForeignKeyConstraint(
            ["session_id", "run_id"],
            ["chat.runs.session_id", "chat.runs.id"],
            ondelete="CASCADE",
            name="fk_tool_executions_session_id_run_id_runs",
        ),
        CheckConstraint("risk IN ('safe', 'risky')", name="risk"),
        CheckConstraint(
            "status IN ('pending_approval', 'approved', 'rejected', 'running', 'succeeded', 'failed', 'timed_out')",
            name="status",
        ),
        Index("ix_tool_executions_decided_by", "decided_by", postgresql_where=text("decided_by IS NOT NULL")),
        Index("ix_tool_executions_expires_at", "expires_at", postgresql_where=text("status = 'pending_approval'")),
    )

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[UUID]
    message_id: Mapped[UUID]
    requested_by: Mapped[UUID | None]
    round: Mapped[int]
    position: Mapped[int]
    call_id: Mapped[str]
    said_characters: Mapped[int]
    tool_name: Mapped[str]
    source: Mapped[str]
    risk: Mapped[str]
    repeatable: Mapped[bool]
    parameters: Mapped[dict[str, Any]]
    signature: Mapped[str | None]
    arguments: Mapped[dict[str, Any]]
    model_arguments: Mapped[dict[str, Any] | None]
    redacted_arguments: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    redact_result: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str]
    result: Mapped[str | None]
    passages: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    error: Mapped[dict[str, Any] | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    duration_ms: Mapped[int | None]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("chat.users.id"))
    decided_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
