"""What tidying up answers."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shared.schema import ReadSchema


class CleanupRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={"example": {"days_old": 30, "dry_run": True, "sessions": 12, "is_complete": True}}
    )

    days_old: int
    dry_run: bool
    sessions: int = Field(description="How many were archived, or would be.")
    is_complete: bool = Field(description="False where there may be more: ask again.")
