"""The table of imports: which conversation became which session."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, Created


class Import(Created, Base):
    """`source_id` is the id that the conversation had where it came from, and the hash is of what it said."""

    __tablename__ = "imports"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("chat.sessions.id", ondelete="CASCADE"), index=True)
