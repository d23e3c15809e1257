"""`POST /api/v1/api-keys/introspect`: the agent asks the chat API whom an API key belongs to.

The agent's database role cannot read the keys, so it asks, with its own service token.
"""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from shared.schema import WriteSchema


class KeyIntrospectionRequest(WriteSchema):
    key: str = Field(min_length=1, max_length=200)


class KeyIntrospection(BaseModel):
    """`active` is false for a key that is unknown, revoked or expired; the rest is then empty."""

    active: bool
    user_id: UUID | None
    scopes: list[str]
