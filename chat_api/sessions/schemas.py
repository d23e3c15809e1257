"""What sessions look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import AfterValidator, ConfigDict, Field

from chat_api.sessions.models import ParticipantRole, ReplyPolicy, SessionStatus
from shared.contracts.chat import Provider
from shared.contracts.tools import MAX_TOOLS, ApprovalMode, ToolPattern
from shared.schema import ReadSchema, Timestamp, WriteSchema

_METADATA_BYTES = 16 * 1024
_INT64 = 2**63


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > _METADATA_BYTES:
        raise ValueError("Metadata may have 16 KiB of JSON at most")
    if not _comes_back(value):
        raise ValueError("Numbers in metadata must fit 64 bits")
    return value


def _comes_back(value: object) -> bool:
    """Whether what is read again could be sent again: 1e20 is stored and shown as an integer, which it may not be."""
    if isinstance(value, dict):
        return all(_comes_back(item) for item in value.values())
    if isinstance(value, list):
        return all(_comes_back(item) for item in value)
    return not isinstance(value, int | float) or abs(value) < _INT64


Metadata = Annotated[dict[str, Any], AfterValidator(_bounded), Field(description="Yours to use; 16 KiB at most.")]
Tag = Annotated[str, Field(min_length=1, max_length=50)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
BotId = Annotated[
    UUID | None,
    Field(description="The bot that answers. What the session leaves open is as the bot has it; null: no bot."),
]
RelatedSessionId = Annotated[
    UUID | None,
    Field(
        description="Another session that you take part in: what was said there last goes to the model as read-only"
        " context. So whoever takes part here may learn of it from the assistant."
    ),
]
SystemPrompt = Annotated[str | None, Field(max_length=20_000, description="Comes after the bot's own.")]

_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"


class SessionSettings(WriteSchema):
    """How the model is asked in this session. What is left out is the bot's, else the default."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    chat_history_length: int | None = Field(default=None, ge=1, le=200, description="Messages the model is shown.")
    tools: list[ToolPattern] | None = Field(
        default=None, max_length=MAX_TOOLS, description="What the assistant may call, in place of the bot's tools."
    )


class SessionCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"title": "Holiday plans", "system_prompt": "You are brief.", "tags": ["travel"]}
        },
    )

    title: Title = "New conversation"
    bot_id: BotId = None
    provider: Provider | None = None
    model: str | None = Field(default=None, min_length=1, max_length=200)
    system_prompt: SystemPrompt = None
    related_session_id: RelatedSessionId = None
    reply_policy: ReplyPolicy | None = Field(
        default=None, description="Left out: `always` with one participant, `mentioned` with more."
    )
    approval_mode: ApprovalMode = ApprovalMode.RISKY
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    metadata: Metadata = Field(default_factory=dict)
    settings: SessionSettings = Field(default_factory=SessionSettings)


class SessionPatch(WriteSchema):
    """Only the fields that are sent change. Null resets a field that may be empty.

    The defaults mean nothing. They are factories so that the OpenAPI document names none: a generated client
    would send it with every change.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"title": "Summer plans"}})

    title: Title = Field(default_factory=str)
    bot_id: BotId = None
    provider: Provider | None = None
    model: str | None = Field(default=None, min_length=1, max_length=200)
    system_prompt: SystemPrompt = None
    related_session_id: RelatedSessionId = None
    reply_policy: ReplyPolicy | None = None
    approval_mode: ApprovalMode = Field(default_factory=lambda: ApprovalMode.RISKY)
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    metadata: Metadata = Field(default_factory=dict)
    settings: SessionSettings = Field(default_factory=SessionSettings)


class ApprovalModeRead(ReadSchema):
    """Which calls of tools wait for a person in a session."""

    model_config = ConfigDict(json_schema_extra={"example": {"approval_mode": "risky"}})

    approval_mode: ApprovalMode


class ApprovalModeChange(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"approval_mode": "always"}})

    approval_mode: ApprovalMode


class ParticipantAdd(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": _EXAMPLE_ID}})

    user_id: UUID = Field(description="Of whom to add: `GET /users` finds people.")


class ReadMark(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"seq": 2}})

    seq: int = Field(
        ge=0,
        le=2**63 - 1,
        strict=True,
        description="`seq` of the last message that you have read. Above the session's last it stands for the last.",
    )


class ParticipantRead(ReadSchema):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {"user_id": _EXAMPLE_ID, "username": "rosa", "role": "member", "last_read_seq": 2}
        },
    )

    user_id: UUID
    username: str
    role: ParticipantRole
    last_read_seq: int


class SessionRead(ReadSchema):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": _EXAMPLE_ID,
                "title": "Holiday plans",
                "owner_id": _EXAMPLE_ID,
                "participants": [
                    {"user_id": _EXAMPLE_ID, "username": "rosa", "role": "owner", "last_read_seq": 0},
                ],
                "bot_id": None,
                "provider": None,
                "model": None,
                "system_prompt": "You are brief.",
                "related_session_id": None,
                "reply_policy": "always",
                "approval_mode": "risky",
                "status": "active",
                "tags": ["travel"],
                "metadata": {},
                "settings": {"temperature": None, "max_tokens": None, "chat_history_length": None},
                "message_count": 2,
                "last_seq": 2,
                "unread_count": 0,
                "last_activity_at": "2026-01-31T09:30:00.000000Z",
                "created_at": "2026-01-31T09:29:00.000000Z",
                "updated_at": "2026-01-31T09:29:00.000000Z",
            }
        },
    )

    id: UUID
    title: str
    owner_id: UUID
    participants: list[ParticipantRead]
    bot_id: UUID | None
    provider: Provider | None
    model: str | None
    system_prompt: str | None
    related_session_id: UUID | None
    reply_policy: ReplyPolicy
    approval_mode: ApprovalMode
    status: SessionStatus
    tags: list[str]
    metadata: dict[str, Any]
    settings: SessionSettings
    message_count: int
    last_seq: int
    unread_count: int = Field(
        description="Messages after your `last_read_seq` that are not yours and not deleted, among the latest 1,000."
        " 100 stands for 100 or more."
    )
    last_activity_at: Timestamp
    created_at: Timestamp
    updated_at: Timestamp


class RelatedMessage(ReadSchema):
    """Something that was said in the linked session. The assistant's `username` is `assistant`."""

    username: str
    content: str


class RelatedContext(ReadSchema):
    """What a linked session adds to the prompt. `text` is what the model is shown, between marks."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "session_id": _EXAMPLE_ID,
                "title": "Holiday plans",
                "messages": [
                    {"username": "rosa", "content": "Shall we take the train?"},
                    {"username": "assistant", "content": "It takes four hours."},
                ],
                "text": "rosa: Shall we take the train?\nassistant: It takes four hours.",
            }
        },
    )

    session_id: UUID = Field(description="Of the linked session.")
    title: str
    messages: list[RelatedMessage]
    text: str
