"""What is found, on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from chat_api.messages.models import MessageRole
from shared.schema import ReadSchema, Timestamp

MAX_QUERY_CHARACTERS = 500


class SearchMode(StrEnum):
    """By words, the newest first; by meaning, the nearest first; or by both together."""

    TEXT = "text"
    SEMANTIC = "semantic"
    HYBRID = "hybrid"


class FoundKind(StrEnum):
    MESSAGE = "message"
    TITLE = "title"


class SnippetPart(ReadSchema):
    """Plain text, as it was written: a page has to escape it, and may mark it where it matched."""

    text: str
    matched: bool


class FoundItem(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "kind": "message",
                "session_id": "0198f3a2-0000-7d0c-8f3e-6b1a2d4c5e6f",
                "session_title": "The port",
                "message_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
                "seq": 1,
                "role": "user",
                "sender": "rosa",
                "created_at": "2026-01-31T09:30:00.000000Z",
                "score": None,
                "snippet": [
                    {"text": "What are the ", "matched": False},
                    {"text": "harbour", "matched": True},
                    {"text": " fees?", "matched": False},
                ],
            }
        }
    )

    kind: FoundKind
    session_id: UUID
    session_title: str
    message_id: UUID | None = Field(description="Null for a title, and so are `seq` and `role`.")
    seq: int | None
    role: MessageRole | None
    sender: str | None = Field(description="Name of the person who wrote it.")
    created_at: Timestamp = Field(description="Of the message, or of the session whose title it is.")
    score: float | None = Field(description="How near it is, from 0 to 1. Null where words alone are looked for.")
    snippet: list[SnippetPart]


def found_item(row: Any, snippet: list[Any], score: float | None = None) -> FoundItem:
    is_message: bool = row.seq > 0
    return FoundItem(
        kind=FoundKind.MESSAGE if is_message else FoundKind.TITLE,
        session_id=row.session_id,
        session_title=row.session_title,
        message_id=row.message_id,
        seq=row.seq if is_message else None,
        role=MessageRole(row.role) if is_message else None,
        sender=row.sender,
        created_at=row.created_at,
        score=score,
        snippet=[SnippetPart(text=part.text, matched=part.matched) for part in snippet],
    )
