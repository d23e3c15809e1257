"""Tables of figures: what changed just now, and sums by day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, Index, Numeric, Table, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.models import Base


class Subject(StrEnum):
    """What is counted. `name` is then the session's status, the message's role, the model, or the tool."""

    SESSION = "session"
    MESSAGE = "message"
    RUN = "run"
    TOOL = "tool"


DELTAS = Table(
    "analytics_deltas",
    Base.metadata,
    Column("day", Date, nullable=False),
    Column("user_id", Uuid),
    Column("subject", Text, nullable=False),
    Column("provider", Text, nullable=False, server_default=text("''")),
    Column("name", Text, nullable=False),
    Column("outcome", Text, nullable=False, server_default=text("''")),
    Column("number", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("total_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("cost", Numeric, nullable=False, server_default=text("0")),
    Column("timed", BigInteger, nullable=False, server_default=text("0")),
    Column("duration_ms", BigInteger),
    Column("first_token_ms", BigInteger),
)
"""Rows that came (`number` 1) or went (-1), not yet folded into the days. The times count `timed` times.

Written by triggers, in the transaction that changes what is counted. No key: nobody looks for one of them.
"""


class _Sums:
    """`durations` and `first_tokens` are histograms: how many times fell into which bucket of `histogram.BOUNDS_MS`."""

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    total_tokens: Mapped[int]
    cost: Mapped[Decimal] = mapped_column(Numeric)
    durations: Mapped[dict[str, Any]]
    first_tokens: Mapped[dict[str, Any]]


class AnalyticsDay(_Sums, Base):
    """Of everybody together."""

    __tablename__ = "analytics_days"
    __table_args__ = (Index("ix_analytics_days_empty", "day", postgresql_where=text("number = 0")),)


class AnalyticsUserDay(_Sums, Base):
    """Of one person: what they own, sent or asked for. What nobody is known for is in the days of everybody alone."""

    __tablename__ = "analytics_user_days"
    __table_args__ = (
        Index(
            "ix_analytics_user_days_day_subject_user_id",
            "day",
            "subject",
            "user_id",
            postgresql_include=["number", "total_tokens"],
        ),
        Index("ix_analytics_user_days_empty", "day", postgresql_where=text("number = 0")),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
