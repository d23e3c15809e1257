"""What snapshots look like on the wire."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field

from chat_api.sessions.schemas import Title
from shared.schema import ReadSchema, Timestamp, WriteSchema


class SnapshotCreate(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"title": "Before the rewrite"}})

    title: Title | None = Field(default=None, description="Left out: the session's own.")


class SnapshotRead(ReadSchema):
    """A copy of a session at a moment."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": "0198f3a2-c4e7-7d0c-8f3e-6b1a2d4c5e6f",
                "session_id": "0198f3a2-0000-7d0c-8f3e-6b1a2d4c5e6f",
                "title": "Before the rewrite",
                "message_count": 4,
                "created_at": "2026-01-31T09:30:00.000000Z",
            }
        },
    )

    id: UUID
    session_id: UUID
    title: str
    message_count: int
    created_at: Timestamp
