"""The table of documents."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, Created

INDEX_TOPIC = "document.index"
"""Outbox: make passages of a document. The payload names the `version` that is wanted."""

PURGE_TOPIC = "document.purge"
"""Outbox: take a deleted document out of the agent, the storage and this table."""


class DocumentStatus(StrEnum):
    """`ready` and `failed` are final until the document is indexed again."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


FINAL_STATUSES = frozenset({DocumentStatus.READY, DocumentStatus.FAILED})


class Document(Created, Base):
    """What a person uploaded. Its bytes are in storage under `storage_key`, its passages at the agent.

    `version` rises with every wish to index it; what comes late for an earlier one is dropped. With
    `deleted_at` it is gone for everybody, and the row only waits for what else has to go.
    """

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'processing', 'ready', 'failed')", name="status"),
        Index(
            "uq_documents_bot_id_sha256", "bot_id", "sha256", unique=True, postgresql_where=text("(deleted_at IS NULL)")
        ),
        Index("ix_documents_bot_id_created_at_id", "bot_id", "created_at", "id"),
        Index("ix_documents_deleted", "bot_id", postgresql_where=text("(deleted_at IS NOT NULL)")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    bot_id: Mapped[UUID] = mapped_column(ForeignKey("chat.bots.id"))
    uploaded_by: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"))
    name: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    storage_key: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=DocumentStatus.PENDING.value)
    progress_done: Mapped[int] = mapped_column(server_default=text("0"))
    progress_total: Mapped[int] = mapped_column(server_default=text("0"))
    chunk_count: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    indexed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
