"""Tables of search. Triggers fill the first of them (`migrations/versions/0007_search.py`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from chat_api.kit.models import Base


class HalfVector(UserDefinedType[Any]):
    """pgvector's, by its name alone: statements pass arrays of numbers, and nobody reads a vector here."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "public.halfvec"


ischema_names["halfvec"] = HalfVector  # else SQLAlchemy does not know the column when it looks at the table


class SearchableText(Base):
    """The words of a message, or with `seq` 0 of a session's title, with the session's owner as one of them."""

    __tablename__ = "message_search"
    __table_args__ = (
        Index("ix_message_search_owner_id_created_at", "owner_id", "created_at", "session_id", "seq"),
        Index(
            "ix_message_search_words", "words", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 64}
        ),
    )

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID]
    role: Mapped[str]
    language: Mapped[str]
    words: Mapped[Any] = mapped_column(TSVECTOR)


class SearchBacklogPlace(Base):
    __tablename__ = "search_backlog"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)


class MessageVector(Base):
    __tablename__ = "message_vectors"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[str]
    vector: Mapped[Any] = mapped_column(HalfVector)


class WaitingForVector(Base):
    """A text without a vector of the current model."""

    __tablename__ = "message_vector_queue"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))


class VectorModel(Base):
    """The model by which messages are embedded now, and who does it."""

    __tablename__ = "vector_model"

    name: Mapped[str] = mapped_column(primary_key=True)
    queued_up_to: Mapped[UUID | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
