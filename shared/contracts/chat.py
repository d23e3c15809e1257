"""`POST /v1/chat`: one turn of a conversation, handed to the agent with all that it needs.

The agent keeps no conversations. It answers with server-sent events, each named by its `type`: any number of `delta`,
`tool_call`, `approval_required` and `tool_result`, at most one `citations`, at most one `usage`, then exactly one of
`done`, `paused` or `error`. With `Accept: application/json` it answers once, with a `ChatAnswer`.

A turn that ends `paused` goes on by the same call with the text and the calls of the assistant, and what is known of
their results, at the end of `messages`, and `decisions` on the others.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.contracts.knowledge import CitationData, Passage, RetrievalOptions
from shared.contracts.tools import (
    MAX_CALLS,
    MAX_TOOLS,
    ApprovalMode,
    ApprovalRequiredEvent,
    CallId,
    FunctionSpec,
    PausedEvent,
    ToolCall,
    ToolCallEvent,
    ToolDecision,
    ToolPattern,
    ToolResultEvent,
)
from shared.problems import ProblemDocument
from shared.schema import WriteSchema

QUOTATION_MARK = "related-"
"""A user's message that begins with `<related-…>` quotes another conversation: it is background, and no question."""


class Provider(StrEnum):
    """Where a model lives. `openai` is anything that speaks its REST API."""

    GOOGLE_GENAI = "google_genai"
    OPENAI = "openai"
    LOCAL = "local"


class ChatRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why the model stopped: at its own end, at `max_tokens`, at the provider's content filter, or to call tools."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"


class ToolChoice(StrEnum):
    """Whether the model may, must, or must not call a tool."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


class ModelChoice(WriteSchema):
    """Which model answers. What is left out is the agent's default."""

    provider: Provider | None = None
    name: str | None = Field(default=None, min_length=1, max_length=200)
    temperature: float | None = Field(default=None, ge=0, le=2, strict=True)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000, strict=True)


class ImageType(StrEnum):
    """The pictures that models take. Not every model takes every one, or any."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    GIF = "image/gif"
    WEBP = "image/webp"


MAX_IMAGES = 8
MAX_IMAGE_BYTES = 8 * 1024 * 1024
"""Of all pictures of a turn together, before base64 makes them a third longer."""

MAX_BASE64_CHARACTERS = (MAX_IMAGE_BYTES + 2) // 3 * 4 + 4 * MAX_IMAGES


class ChatImage(WriteSchema):
    """A picture, for a model that can see."""

    media_type: ImageType
    data: str = Field(
        min_length=4, max_length=MAX_BASE64_CHARACTERS, pattern=r"^[A-Za-z0-9+/]+={0,2}$", description="Base64."
    )


class ChatMessage(WriteSchema):
    role: ChatRole
    content: str
    name: str | None = Field(
        default=None, min_length=1, max_length=64, description="Who said it, in a room of several."
    )
    images: list[ChatImage] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        description="Shown with a message of the user, in this order.",
    )
    tool_calls: list[ToolCall] | None = Field(
        default=None, min_length=1, max_length=MAX_CALLS, description="What the assistant asked for after these words."
    )
    tool_call_id: CallId | None = Field(default=None, description="Which call a message of a tool answers.")
    passages: list[Passage] | None = Field(
        default=None, max_length=50, description="What a tool's answer quoted, as its result named it."
    )

    @model_validator(mode="after")
    def _each_role_has_its_own(self) -> Self:
        if self.images and self.role is not ChatRole.USER:
            raise PydanticCustomError("images_role", "Only messages of the user may have images")
        if self.tool_calls and self.role is not ChatRole.ASSISTANT:
            raise PydanticCustomError("tool_calls_role", "Only messages of the assistant may have tool calls")
        if (self.tool_call_id is not None) != (self.role is ChatRole.TOOL):
            raise PydanticCustomError("tool_call_id_role", "Messages of a tool, and no others, have a tool_call_id")
        if self.passages and self.role is not ChatRole.TOOL:
            raise PydanticCustomError("passages_role", "Only messages of a tool may have passages")
        return self


class ChatUser(WriteSchema):
    """On whose behalf the turn runs. With an API key it is the key's owner, whoever is named here."""

    id: UUID
    session_id: UUID | None = Field(
        default=None, description="Where it is asked: tools find only what everybody there may see."
    )


class ChatRequest(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "run_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
                "model": {"provider": "local"},
                "system_prompt": "You are brief.",
                "messages": [{"role": "user", "content": "What is a conversation?"}],
            }
        },
    )

    run_id: UUID
    model: ModelChoice = Field(default_factory=ModelChoice)
    system_prompt: str | None = Field(default=None, max_length=100_000)
    messages: list[ChatMessage] = Field(min_length=1, max_length=2_000)
    collections: list[UUID] = Field(
        default_factory=list, max_length=20, description="Passages of these are shown to the model, as data."
    )
    retrieval: RetrievalOptions = Field(default_factory=RetrievalOptions)
    ground: bool = Field(
        default=True,
        strict=True,
        description="Whether passages are found before the model is asked. Without, `search_knowledge` finds them.",
    )
    tools: list[ToolPattern] = Field(
        default_factory=list,
        max_length=MAX_TOOLS,
        description="What the model may call, as `GET /v1/tools` names it. What nobody offers now is left out.",
    )
    functions: list[FunctionSpec] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Tools of your own: a call ends the turn `paused`."
    )
    tool_choice: ToolChoice = Field(default_factory=lambda: ToolChoice.AUTO, description="Of the first answer.")
    approval_mode: ApprovalMode = Field(
        default=ApprovalMode.RISKY, description="Which calls wait for a decision: none, risky ones, or every one."
    )
    decisions: list[ToolDecision] = Field(
        default_factory=list, max_length=MAX_CALLS, description="On calls of the last message of the assistant."
    )
    spent_tokens: int = Field(
        default=0, ge=0, strict=True, description="What earlier calls of this run took: the limit is of the run."
    )
    user: ChatUser | None = None

    @model_validator(mode="after")
    def _decides_each_call_once(self) -> Self:
        decided = [decision.call_id for decision in self.decisions]
        if len(set(decided)) < len(decided):
            raise PydanticCustomError("decided_twice", "Decide on each call once")
        return self

    @model_validator(mode="after")
    def _images_have_room(self) -> Self:
        images = [image for message in self.messages for image in message.images or ()]
        if len(images) > MAX_IMAGES or sum(len(image.data) for image in images) > MAX_BASE64_CHARACTERS:
            raise PydanticCustomError("too_many_images", "A turn may have 8 images, and 8 MiB of them")
        return self


class Usage(BaseModel):
    """Tokens as the provider counted them."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class DeltaEvent(BaseModel):
    """More of the answer. Deltas that arrive together may travel together.

    The first of a turn says who answers: a turn that is stopped has no end that would.
    """

    type: Literal["delta"] = "delta"
    text: str
    provider: Provider | None = None
    model: str | None = None


class CitationsEvent(BaseModel):
    """The passages that the answer stands on. Sent once, after the last delta, where there are any."""

    type: Literal["citations"] = "citations"
    citations: list[CitationData]


class UsageEvent(BaseModel):
    type: Literal["usage"] = "usage"
    usage: Usage


class DoneEvent(BaseModel):
    """The end of a turn that went well. Times are in milliseconds, from the call to the model."""

    type: Literal["done"] = "done"
    finish_reason: FinishReason
    provider: Provider
    model: str
    latency_ms: int
    time_to_first_token_ms: int | None


class ErrorEvent(BaseModel):
    """The end of a turn that failed. What was said before it stays said."""

    type: Literal["error"] = "error"
    problem: ProblemDocument
    retry_after: int | None = Field(default=None, description="Seconds to wait before the turn is tried again.")
    provider: Provider | None = Field(default=None, description="Who was asked, with `model`.")
    model: str | None = None


ChatEvent = Annotated[
    DeltaEvent
    | CitationsEvent
    | ToolCallEvent
    | ApprovalRequiredEvent
    | ToolResultEvent
    | UsageEvent
    | DoneEvent
    | PausedEvent
    | ErrorEvent,
    Field(discriminator="type"),
]
LAST_EVENTS = (DoneEvent, PausedEvent, ErrorEvent)
"""Exactly one of these ends a turn."""


class ChatAnswer(BaseModel):
    """The whole turn at once, for callers that asked for JSON.

    With `finish_reason` `tool_calls` it is paused: `awaiting` are the calls that have no result yet.
    """

    text: str
    citations: list[CitationData]
    tool_calls: list[ToolCallEvent]
    tool_results: list[ToolResultEvent]
    awaiting: list[str]
    finish_reason: FinishReason
    usage: Usage | None
    provider: Provider
    model: str
    latency_ms: int
    time_to_first_token_ms: int | None
