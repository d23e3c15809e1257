"""The table of what people used, day by day."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class UserDay(Base):
    """What a person used on one day, UTC: the sum of its shards. It never shrinks.

    Messages to several sessions at once go to several shards, so that none waits for another's commit. Near the quota
    they all go to shard 0, in which `allowed` is what may stand there: its check is what holds the quota.
    """

    __tablename__ = "user_days"
    __table_args__ = (
        CheckConstraint("messages <= allowed", name="messages"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    messages: Mapped[int] = mapped_column(server_default=text("0"))
    tokens: Mapped[int] = mapped_column(server_default=text("0"))
    allowed: Mapped[int | None]
