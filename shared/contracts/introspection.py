"""`POST /api/v1/api-keys/introspect`: the agent asks the chat API whom an API key belongs to.

The agent's database role cannot read the keys, so it asks, with its own service token.
"""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.schema import WriteSchema

_KEY = "cq_0198f3a2c4e17d0c8f3e6b1a2d4c5e6f_Zk3b0uYq4w7v1s9t2xRm5n8p6cLdJhGfEaQoWiTyUbV"


class KeyIntrospectionRequest(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"key": _KEY}})

    key: str = Field(min_length=1, max_length=200)


class KeyIntrospection(BaseModel):
    """`active` is false for a key that is unknown, revoked or expired; the rest is then empty."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"active": True, "user_id": "0198f3a1-0000-7d0c-8f3e-6b1a2d4c5e6f", "scopes": ["agent:invoke"]}
        }
    )

    active: bool
    user_id: UUID | None
    scopes: list[str]
