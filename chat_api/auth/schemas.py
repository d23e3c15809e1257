"""What the routes of API keys take and give."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from chat_api.auth.actors import Scope
from shared.schema import ReadSchema, Timestamp, WriteSchema

_KEY: JsonDict = {
    "id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "name": "notebook",
    "scopes": ["chat:read", "chat:write"],
    "expires_at": None,
    "last_used_at": None,
    "created_at": "2026-01-31T09:30:00.000000Z",
}


class ApiKeyCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "notebook", "scopes": ["chat:read", "chat:write"]}},
    )

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="What it is for; shown in the list."
    )
    scopes: list[Scope] = Field(
        min_length=1, max_length=len(Scope), description="At most what the caller holds; `admin` for administrators."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="In the future. Null: it does not expire.")


class ApiKeyRead(ReadSchema):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _KEY})

    id: UUID
    name: str
    scopes: list[Scope]
    expires_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="To the minute.")
    created_at: Timestamp


class ApiKeyCreated(ApiKeyRead):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                **_KEY,
                "key": "cq_0198f3a2c4e17d0c8f3e6b1a2d4c5e6f_Zk3b0uYq4w7v1s9t2xRm5n8p6cLdJhGfEaQoWiTyUbV",
            }
        },
    )

    key: str = Field(description="The key itself. It is shown here once and stored nowhere.")


class Ticket(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={"example": {"ticket": "Zk3b0uYq4w7v1s9t2xRm5n8p6cLdJhGfEaQoWiTyUbV", "expires_in": 30}}
    )

    ticket: str = Field(description="For `/api/v1/ws?ticket=…`. It is good for one connection.")
    expires_in: int = Field(description="Seconds.")
