"""Tools: what a model may ask for, what became of it, and what it is told.

A tool runs on the agent. One that is `repeatable` may be run again when nobody knows how it ended; another must not,
so it runs only in a call that carries the decision on it, and whoever decides can put that on record before.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.knowledge import Passage
from shared.problems import ProblemDocument
from shared.schema import WriteSchema

MAX_TOOLS = 64
"""Tools that a model is offered in one turn."""
MAX_CALLS = 32
"""Calls that a model may make at once."""
MAX_ARGUMENT_BYTES = 64 * 1024
"""Of the JSON of one call's arguments."""
MAX_RESULT_CHARACTERS = 32_768
"""Of what a tool answers; what goes beyond is cut off and said to be."""
MAX_REASON_CHARACTERS = 2_000
MAX_SIGNATURE_CHARACTERS = 65_536

SEARCH_KNOWLEDGE = "search_knowledge"
"""The built-in tool that finds passages in the turn's collections."""
CALLER = "caller"
"""The source of functions that the caller runs."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""What every provider takes as the name of a function."""
ToolPattern = Annotated[
    str,
    StringConstraints(pattern=r"^(mcp:)?[A-Za-z0-9_.-]{1,64}$"),
    Field(description="A tool's name, or `mcp:<server>` for all tools of that server."),
]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]


class ToolRisk(StrEnum):
    """`safe` reads what the caller may see anyway. `risky` reaches out, changes something, or nobody knows."""

    SAFE = "safe"
    RISKY = "risky"


class ApprovalMode(StrEnum):
    """Which tools wait for a person: none, those marked risky, or all."""

    NEVER = "never"
    RISKY = "risky"
    ALWAYS = "always"

    def asks_for(self, risk: ToolRisk) -> bool:
        return self is ApprovalMode.ALWAYS or (self is ApprovalMode.RISKY and risk is ToolRisk.RISKY)


class ToolVerdict(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


class ToolOutcome(StrEnum):
    """How a call ended. Of a tool that is not repeatable, `failed` and `timed_out` may have done their work."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"


class ToolCall(WriteSchema):
    """A model's wish. `id` is unique within the run; `arguments` are as the model wrote them."""

    id: CallId
    name: str = Field(min_length=1, max_length=200)
    arguments: dict[str, Any]
    signature: str | None = Field(
        default=None,
        max_length=MAX_SIGNATURE_CHARACTERS,
        description="The provider's own mark on the call. Hand it back unchanged with the call.",
    )


class ToolDecision(WriteSchema):
    """What was decided about one call. `arguments` replace those of the model."""

    call_id: CallId
    decision: ToolVerdict
    arguments: dict[str, Any] | None = None
    reason: str | None = Field(default=None, max_length=MAX_REASON_CHARACTERS, description="The model is told.")


class FunctionSpec(WriteSchema):
    """A tool of the caller's own: a call of it ends the turn, and the caller runs it."""

    name: ToolName
    description: str = Field(default="", max_length=8_192)
    parameters: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of an object.")


class ToolCallEvent(BaseModel):
    """The model calls a tool. The calls that it makes at once are `index` 0 … `count` - 1, one event each.

    With a `problem` the call cannot be run: there is no such tool, or the arguments do not fit. The model is told.
    """

    type: Literal["tool_call"] = "tool_call"
    call: ToolCall
    source: str = Field(description="`builtin`, `mcp:<server>`, or `caller` for the caller's own function.")
    risk: ToolRisk
    repeatable: bool = Field(description="Whether it may be run again when nobody knows how it ended.")
    parameters: dict[str, Any] = Field(description="JSON Schema that changed arguments have to fit.")
    redacted_arguments: list[str] = Field(default_factory=list, description="Arguments that no log may show.")
    redact_result: bool = Field(default=False, description="Whether no log may show what it answers.")
    index: int
    count: int
    problem: ProblemDocument | None = None


class ApprovalRequiredEvent(BaseModel):
    """This call waits for a decision. The turn ends `paused`."""

    type: Literal["approval_required"] = "approval_required"
    call_id: str


class ToolResultEvent(BaseModel):
    """A call was run. `content` is what the model is told of it, also where it failed."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    outcome: ToolOutcome
    content: str
    passages: list[Passage] = Field(default_factory=list, description="What the answer may cite.")
    problem: ProblemDocument | None = None
    attempts: int
    duration_ms: int


class PausedEvent(BaseModel):
    """The end of a call that goes on with decisions, or with what the caller's functions answered."""

    type: Literal["paused"] = "paused"
    provider: str
    model: str
    latency_ms: int
    time_to_first_token_ms: int | None


TOOL_EXAMPLE: dict[str, Any] = {
    "name": "calculator",
    "title": "Calculator",
    "description": "Works out an arithmetic expression.",
    "source": "builtin",
    "risk": "safe",
    "repeatable": True,
    "parameters": {
        "type": "object",
        "properties": {"expression": {"type": "string", "maxLength": 500}},
        "required": ["expression"],
        "additionalProperties": False,
    },
    "timeout_seconds": 5.0,
}


class ToolSpecRead(BaseModel):
    """A tool that a turn may name."""

    model_config = ConfigDict(json_schema_extra={"example": TOOL_EXAMPLE})

    name: str
    title: str
    description: str
    source: str
    risk: ToolRisk
    repeatable: bool
    parameters: dict[str, Any]
    timeout_seconds: float


class ToolSourceState(StrEnum):
    """Of an MCP server: its session is open, is being opened, or broke and is tried again later."""

    READY = "ready"
    STARTING = "starting"
    DOWN = "down"


class ToolSourceRead(BaseModel):
    """Where tools come from, and whether it answers."""

    name: str
    state: ToolSourceState
    tools: int
    restarts: int
    error: str | None = Field(description="Why it is down, in our words.")


class ToolList(BaseModel):
    items: list[ToolSpecRead]
    sources: list[ToolSourceRead]


class FoundMessage(BaseModel):
    """A message that a search found in somebody's sessions."""

    message_id: UUID
    session_id: UUID
    session_title: str
    seq: int
    role: str
    sender: str | None
    created_at: str
    snippet: str


class MessageSearchRequest(WriteSchema):
    """The agent asks for what `user_id` may read. With a session, only for what everybody in it may read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"user_id": "0198f3a1-0000-7d0c-8f3e-6b1a2d4c5e6f", "query": "harbour fees", "limit": 5}
        },
    )

    user_id: UUID
    session_id: UUID | None = None
    query: str = Field(min_length=1, max_length=500)
    limit: int = Field(default=5, ge=1, le=20, strict=True)


class MessageSearchAnswer(BaseModel):
    items: list[FoundMessage]


def rejection(reason: str | None) -> str:
    """What the model is told of a call that somebody refused."""
    if reason:
        return f"The tool was not run: a person refused it. Their reason: {reason}"
    return "The tool was not run: a person refused it. Do not try it again unless they ask for it."


def failure(detail: str) -> str:
    """What the model is told of a call that went wrong."""
    return f"The call failed: {detail}"


def changed(arguments: dict[str, Any]) -> str:
    """Precedes a result: a person had the tool run with other arguments than the model's."""
    return f"A person changed the arguments to {orjson.dumps(arguments).decode()} before it ran.\n"
