"""Tables of bots, and of the people whom their owners let use them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, Created, CreatedAndUpdated


class Visibility(StrEnum):
    """Who may use a bot: its owner, also those whom the owner names, or everybody who is signed in."""

    PRIVATE = "private"
    SHARED = "shared"
    PUBLIC = "public"


class AgentType(StrEnum):
    """What happens before the model is asked: nothing, or a search in the bot's documents."""

    CHAT = "chat"
    RAG = "rag"
    REACT = "react"


class Bot(CreatedAndUpdated, Base):
    """A row with `deleted_at` is gone for everybody; it stays until its documents and passages are gone too."""

    __tablename__ = "bots"
    __table_args__ = (
        CheckConstraint("visibility IN ('private', 'shared', 'public')", name="visibility"),
        Index(
            "ix_bots_public",
            "created_at",
            "id",
            # With the brackets that PostgreSQL writes: a test compares the two.
            postgresql_where=text("((visibility = 'public') AND (deleted_at IS NULL))"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"), index=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=text("''"))
    system_prompt: Mapped[str | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    configuration: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    visibility: Mapped[str] = mapped_column(server_default="private")
    deleted_at: Mapped[datetime | None]


class BotShare(Created, Base):
    """Somebody who may use a bot. It counts while the bot is `shared`."""

    __tablename__ = "bot_shares"

    bot_id: Mapped[UUID] = mapped_column(ForeignKey("chat.bots.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id"), primary_key=True, index=True)
