"""Plans and what is used of them, on the wire."""

from __future__ import annotations

from datetime import date
from typing import Self

from pydantic import ConfigDict, Field

from chat_api.config import Plan
from shared.schema import ReadSchema, Timestamp


class PlanRead(ReadSchema):
    """Null is as much as one likes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "free",
                "messages_per_day": 1000,
                "tokens_per_day": 2_000_000,
                "documents": 500,
                "storage_bytes": 1_073_741_824,
                "requests_per_minute": 1200,
                "key_requests_per_minute": 600,
                "retention_days": None,
            }
        }
    )

    name: str
    messages_per_day: int | None
    tokens_per_day: int | None
    documents: int | None = Field(description="Of all bots of a person together.")
    storage_bytes: int | None = Field(description="Of documents and attachments together.")
    requests_per_minute: int | None = Field(description="By whatever credential.")
    key_requests_per_minute: int | None = Field(description="By one API key.")
    retention_days: int | None = Field(description="Sessions that were idle for longer are removed.")

    @classmethod
    def of(cls, name: str, plan: Plan) -> Self:
        return cls(name=name, **plan.model_dump())


class QuotaRead(ReadSchema):
    """`limit` and `remaining` are null where there is no limit."""

    used: int
    limit: int | None
    remaining: int | None

    @classmethod
    def of(cls, used: int, limit: int | None) -> Self:
        return cls(used=used, limit=limit, remaining=None if limit is None else max(0, limit - used))


class UsageRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan": "free",
                "day": "2026-01-31",
                "resets_at": "2026-02-01T00:00:00.000000Z",
                "messages": {"used": 12, "limit": 1000, "remaining": 988},
                "tokens": {"used": 5120, "limit": 2_000_000, "remaining": 1_994_880},
                "documents": {"used": 3, "limit": 500, "remaining": 497},
                "storage_bytes": {"used": 52_430, "limit": 1_073_741_824, "remaining": 1_073_689_394},
            }
        }
    )

    plan: str
    day: date = Field(description="Of UTC. Messages and tokens are counted by it.")
    resets_at: Timestamp = Field(description="When the next day begins.")
    messages: QuotaRead = Field(description="Sent today, also those that were deleted since.")
    tokens: QuotaRead = Field(description="Used today, by replies that were broken off too.")
    documents: QuotaRead = Field(description="There now.")
    storage_bytes: QuotaRead = Field(description="Taken now, by documents and attachments.")
