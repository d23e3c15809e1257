"""Who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a credential may be used for. Its owner's rights limit it further."""

    CHAT_READ = "chat:read"
    CHAT_WRITE = "chat:write"
    AGENT_INVOKE = "agent:invoke"
    ADMIN = "admin"


ALL_SCOPES: frozenset[Scope] = frozenset(Scope)
"""What a person who signed in holds: everything that the account itself may do."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A verified caller. `api_key_id` is None for a person who signed in."""

    user_id: UUID
    scopes: frozenset[Scope]
    api_key_id: UUID | None
