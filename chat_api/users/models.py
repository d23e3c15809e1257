"""The table of people."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, false, func, text, true
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base, CreatedAndUpdated, new_id

EMAIL_INDEX = "uq_users_lower_email"
USERNAME_INDEX = "uq_users_lower_username"


class UserType(StrEnum):
    OWNER = "owner"
    STUDENT = "student"
    STAFF = "staff"


class User(CreatedAndUpdated, Base):
    """A person with an account. Names are unique whatever their case; the indexes decide who was first."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("user_type IN ('owner', 'student', 'staff')", name="user_type"),
        CheckConstraint("erasure_requested_at IS NULL OR NOT is_active", name="erased_is_closed"),
        Index("ix_users_closed", "updated_at", postgresql_where=text("(NOT is_active)")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str]
    # Names are ASCII. Byte order makes a prefix a range of the index, whatever the database's locale.
    username: Mapped[str] = mapped_column(Text(collation="C"))
    password_hash: Mapped[str]
    user_type: Mapped[str] = mapped_column(server_default="owner")
    plan: Mapped[str] = mapped_column(server_default="free")
    is_admin: Mapped[bool] = mapped_column(server_default=false())
    is_active: Mapped[bool] = mapped_column(server_default=true())
    # The row goes once all else is gone. Until then the account is closed, and cannot be opened again.
    erasure_requested_at: Mapped[datetime | None]


Index(EMAIL_INDEX, func.lower(User.email), unique=True)
Index(USERNAME_INDEX, func.lower(User.username), unique=True)
