"""What sending and runs look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from chat_api.messages.schemas import MAX_CONTENT_CHARS, MESSAGE_EXAMPLE, Citation, MessageRead
from chat_api.runs.models import RunStatus
from chat_api.sessions.schemas import Metadata
from shared.contracts.chat import Provider, Usage
from shared.contracts.tools import ApprovalMode
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, Timestamp, WriteSchema

ClientId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]

RUN_EXAMPLE: dict[str, Any] = {
    "id": "0198f3a2-c4e2-7d0c-8f3e-6b1a2d4c5e6f",
    "session_id": "0198f3a2-0000-7d0c-8f3e-6b1a2d4c5e6f",
    "trigger_message_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "reply_message_id": "0198f3a2-c4e3-7d0c-8f3e-6b1a2d4c5e6f",
    "status": "completed",
    "error": None,
    "usage": {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42},
    "created_at": "2026-01-31T09:30:00.000000Z",
    "started_at": "2026-01-31T09:30:00.004000Z",
    "finished_at": "2026-01-31T09:30:01.200000Z",
}
REPLY_EXAMPLE: dict[str, Any] = MESSAGE_EXAMPLE | {
    "id": RUN_EXAMPLE["reply_message_id"],
    "seq": 2,
    "role": "assistant",
    "sender": None,
    "content": "People taking turns.",
    "parent_id": MESSAGE_EXAMPLE["id"],
    "run_id": RUN_EXAMPLE["id"],
    "provider": "local",
    "model": "SmolLM2-135M-Instruct",
    "usage": RUN_EXAMPLE["usage"],
    "latency_ms": 1100,
    "time_to_first_token_ms": 80,
    "client_id": None,
}

MAX_ATTACHMENTS = 10


def _each_once(ids: list[UUID]) -> list[UUID]:
    if len(set(ids)) < len(ids):
        raise PydanticCustomError("attachment_twice", "Name each attachment once")
    return ids


AttachmentIds = Annotated[list[UUID], AfterValidator(_each_once)]


class MessageCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"content": "What is a conversation?", "client_id": "a1"}},
    )

    content: str = Field(min_length=1, max_length=MAX_CONTENT_CHARS)
    client_id: ClientId | None = Field(
        default=None,
        description="Your own id for this message, unique among yours in the session. Sent again, the same"
        " message and reply come back.",
    )
    attachment_ids: AttachmentIds = Field(
        default_factory=list,
        max_length=MAX_ATTACHMENTS,
        description="Files that you uploaded, in this order.",
        json_schema_extra={"uniqueItems": True},
    )
    include_related_context: bool = Field(
        default=True, strict=True, description="Whether the model sees the linked session's recent messages."
    )
    metadata: Metadata = Field(default_factory=dict)


class RunUsage(Usage):
    """All that a run used, its tools' rounds included."""

    estimated: bool = Field(
        default=False,
        exclude_if=lambda estimated: not estimated,
        description="True where a reply was broken off, or its provider did not say; else absent.",
    )


class RunRead(ReadSchema):
    """One answer of the assistant. `error` says why it failed."""

    model_config = ConfigDict(json_schema_extra={"example": RUN_EXAMPLE})

    id: UUID
    session_id: UUID
    trigger_message_id: UUID
    reply_message_id: UUID | None
    status: RunStatus
    error: ProblemDocument | None
    usage: RunUsage | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None


class MessageDelta(BaseModel):
    """More of a reply: the data of `message.delta` in an event stream."""

    message_id: UUID
    offset: int = Field(description="Unicode code points of this message that were sent before.")
    text: str


class MessageCitations(BaseModel):
    """The passages that a reply stands on: the data of `message.citations` in an event stream."""

    message_id: UUID
    citations: list[Citation]


class Exchanged(BaseModel):
    """A message, the run that answered it and the reply; the last two are null where no reply is due."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "message": MESSAGE_EXAMPLE | {"run_id": RUN_EXAMPLE["id"]},
                "run": RUN_EXAMPLE,
                "reply": REPLY_EXAMPLE,
            }
        }
    )

    message: MessageRead
    run: RunRead | None
    reply: MessageRead | None


class Accepted(BaseModel):
    """A stored message and the run that will answer it; null where no reply is due."""

    message: MessageRead
    run: RunRead | None


class TokenTotals(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SessionActivity(BaseModel):
    """What a session is doing, and what it has used so far."""

    session_id: UUID
    provider: Provider | None
    model: str | None
    approval_mode: ApprovalMode
    active_run: RunRead | None
    queued_runs: int
    tools: list[str]
    tokens: TokenTotals
