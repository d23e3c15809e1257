"""What messages look like on the wire."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_api.messages.models import MessageRole, MessageStatus
from chat_api.sessions.schemas import Metadata
from shared.contracts.chat import Provider, Usage
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, Timestamp, WriteSchema

MAX_CONTENT_CHARS = 100_000

MESSAGE_EXAMPLE: dict[str, Any] = {
    "id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "session_id": "0198f3a2-0000-7d0c-8f3e-6b1a2d4c5e6f",
    "seq": 1,
    "role": "user",
    "sender": {"id": "0198f3a1-0000-7d0c-8f3e-6b1a2d4c5e6f", "username": "rosa"},
    "content": "What is a conversation?",
    "attachments": [],
    "parent_id": None,
    "run_id": None,
    "status": "complete",
    "provider": None,
    "model": None,
    "usage": None,
    "cost": None,
    "latency_ms": None,
    "time_to_first_token_ms": None,
    "citations": [],
    "tools_used": [],
    "reactions": {},
    "error": None,
    "metadata": {},
    "client_id": "a1",
    "created_at": "2026-01-31T09:30:00.000000Z",
    "edited_at": None,
    "deleted_at": None,
}


class Sender(ReadSchema):
    id: UUID
    username: str


class Attachment(ReadSchema):
    """A file named in a message."""

    id: UUID
    name: str
    content_type: str
    size_bytes: int


class Citation(ReadSchema):
    """A passage that the answer stands on."""

    index: int
    document_id: UUID
    document_name: str
    chunk_id: UUID
    page: int | None
    score: float
    snippet: str


class MessageRead(ReadSchema):
    model_config = ConfigDict(json_schema_extra={"example": MESSAGE_EXAMPLE})

    id: UUID
    session_id: UUID
    seq: int = Field(description="1, 2, 3 … in the session, in the order of commits.")
    role: MessageRole
    sender: Sender | None
    content: str
    attachments: list[Attachment]
    parent_id: UUID | None = Field(description="Of a reply: the message that it answers.")
    run_id: UUID | None
    status: MessageStatus
    provider: Provider | None
    model: str | None
    usage: Usage | None
    cost: float | None
    latency_ms: int | None
    time_to_first_token_ms: int | None
    citations: list[Citation]
    tools_used: list[str]
    reactions: dict[str, list[UUID]]
    error: ProblemDocument | None
    metadata: dict[str, Any]
    client_id: str | None
    created_at: Timestamp
    edited_at: Timestamp | None
    deleted_at: Timestamp | None


class MessageWindow(BaseModel):
    """A window of history, ascending by `seq`. `next_cursor` goes on in the direction that was asked for."""

    items: list[MessageRead]
    next_cursor: str | None


class MessagePatch(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"content": "What is a dialogue?"}})

    content: str = Field(default_factory=str, min_length=1, max_length=MAX_CONTENT_CHARS)
    metadata: Metadata = Field(default_factory=dict)


class RevisionRead(ReadSchema):
    """An earlier text of a message, from `written_at` until `replaced_at`."""

    revision: int
    content: str
    written_at: Timestamp
    replaced_at: Timestamp


class Revisions(BaseModel):
    items: list[RevisionRead]
