"""Tables of attachments and of the messages that name them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, Created


class Attachment(Created, Base):
    """A file that somebody uploaded. It never changes; one that no message names is removed after a day."""

    __tablename__ = "attachments"
    __table_args__ = (Index("ix_attachments_created_at", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"), index=True)
    name: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    storage_key: Mapped[str]


class MessageAttachment(Base):
    """That a message names a file, which is what lets the session's participants read it."""

    __tablename__ = "message_attachments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["session_id", "message_id"],
            ["chat.messages.session_id", "chat.messages.id"],
            ondelete="CASCADE",
            name="fk_message_attachments_session_id_message_id_messages",
        ),
    )

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    attachment_id: Mapped[UUID] = mapped_column(ForeignKey("chat.attachments.id"), primary_key=True, index=True)
