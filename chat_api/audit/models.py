"""The table of what administrators did, and what people did to their own accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class AuditEntry(Base):
    """One thing done. Nobody changes an entry; erasing an account only puts a made-up id in the place of its own.

    No foreign keys: an entry outlives what it speaks of.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index(None, "created_at", "id"),
        Index(None, "actor_id", "created_at", "id"),
        Index(None, "subject_id", "created_at", "id"),
        Index(None, "action", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    actor_id: Mapped[UUID | None]
    action: Mapped[str]
    subject_type: Mapped[str]
    subject_id: Mapped[UUID | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime]
