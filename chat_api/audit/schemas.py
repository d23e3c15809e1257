"""What the audit log looks like on the wire."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from shared.schema import ReadSchema, Timestamp

_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"


class AuditActor(ReadSchema):
    """Somebody who did something. The username is null once the account was erased."""

    id: UUID
    username: str | None


class AuditEntryRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": _EXAMPLE_ID,
                "actor": {"id": _EXAMPLE_ID, "username": "ada"},
                "action": "sessions.archived",
                "subject_type": "sessions",
                "subject_id": None,
                "details": {"days_old": 30, "sessions": 12},
                "created_at": "2026-01-31T09:29:00.000000Z",
            }
        }
    )

    id: UUID
    actor: AuditActor | None = Field(description="Null for what the service did by itself.")
    action: str = Field(description="A noun and what happened to it: `account.erased`.")
    subject_type: str = Field(description="What `subject_id` is the id of: `user`, `session`, …")
    subject_id: UUID | None
    details: dict[str, JsonValue]
    created_at: Timestamp
