"""What the routes of privacy take and give."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field

from shared.schema import ReadSchema, Timestamp, WriteSchema


class AccountErasure(WriteSchema):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"password": "correct horse battery staple"}}
    )

    password: str = Field(
        min_length=1, max_length=256, description="The present one.", json_schema_extra={"format": "password"}
    )


class ErasureRead(ReadSchema):
    """The account is closed; what was in it is being erased."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "user_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
                "requested_at": "2026-01-31T09:30:00.000000Z",
            }
        }
    )

    user_id: UUID
    requested_at: Timestamp
