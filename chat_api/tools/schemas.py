"""What tools, their executions and decisions on them look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_api.messages.schemas import MESSAGE_EXAMPLE
from chat_api.tools.models import ToolStatus
from shared.contracts.tools import MAX_REASON_CHARACTERS, ApprovalMode, ToolRisk
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, Timestamp, WriteSchema

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"url": {"type": "string", "maxLength": 2000}},
    "required": ["url"],
    "additionalProperties": False,
}

ToolReason = Annotated[
    str | None, Field(min_length=1, max_length=MAX_REASON_CHARACTERS, description="The model is told.")
]

TOOL_EXECUTION_EXAMPLE: dict[str, Any] = {
    "id": "0198f3a2-c4e6-7d0c-8f3e-6b1a2d4c5e6f",
    "session_id": MESSAGE_EXAMPLE["session_id"],
    "message_id": "0198f3a2-c4e3-7d0c-8f3e-6b1a2d4c5e6f",
    "run_id": "0198f3a2-c4e2-7d0c-8f3e-6b1a2d4c5e6f",
    "round": 1,
    "position": 0,
    "call_id": "call_5f0c1d2e",
    "tool_name": "fetch_url",
    "source": "builtin",
    "risk": "risky",
    "repeatable": True,
    "parameters": _PARAMETERS,
    "arguments": {"url": "https://example.org/tides"},
    "model_arguments": None,
    "status": "pending_approval",
    "result": None,
    "error": None,
    "attempts": 0,
    "duration_ms": None,
    "decided_by": None,
    "decided_at": None,
    "reason": None,
    "expires_at": "2026-02-01T09:30:00.000000Z",
    "created_at": "2026-01-31T09:30:00.000000Z",
    "started_at": None,
    "finished_at": None,
}


class ToolExecutionRead(ReadSchema):
    """One call of a tool, from the model's wish to what became of it.

    What a tool says that no log may show is `[redacted]`.
    """

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": TOOL_EXECUTION_EXAMPLE})

    id: UUID
    session_id: UUID
    message_id: UUID = Field(description="The reply that it is for.")
    run_id: UUID
    round: int = Field(description="1, 2, 3 … : the times that the model of this run called tools.")
    position: int = Field(description="0, 1, 2 … among the calls that it made at once.")
    call_id: str
    tool_name: str
    source: str = Field(description="`builtin`, or `mcp:<server>`.")
    risk: ToolRisk
    repeatable: bool = Field(description="Whether it may be run again when nobody knows how it ended.")
    parameters: dict[str, Any] = Field(description="JSON Schema that changed arguments have to fit.")
    arguments: dict[str, Any] = Field(description="What it runs with.")
    model_arguments: dict[str, Any] | None = Field(description="The model's own, where a person changed them.")
    status: ToolStatus
    result: str | None = Field(description="What the model was told.")
    error: ProblemDocument | None
    attempts: int
    duration_ms: int | None
    decided_by: UUID | None = Field(description="Who approved or rejected it; null where nobody was asked.")
    decided_at: Timestamp | None
    reason: str | None = Field(description="Why it was rejected. The model is told.")
    expires_at: Timestamp | None = Field(description="When it is rejected by itself; null where nobody is asked.")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None


class ToolExecutionPage(BaseModel):
    """A page of the log, in the order in which the calls were made. `next_cursor` is null on the last."""

    items: list[ToolExecutionRead]
    next_cursor: str | None


class ToolApproval(WriteSchema):
    """Left out, the arguments stay the model's."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"arguments": {"url": "https://example.org/tides"}}}
    )

    arguments: dict[str, Any] | None = Field(
        default=None,
        description="All of them, in place of the model's; 64 KiB of JSON at most. An argument that is shown as"
        " `[redacted]` and comes back so stays what it is.",
    )


class ToolRejection(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "Ask the harbour office."}})

    reason: ToolReason = None


class SessionToolRead(ReadSchema):
    """A tool that the assistant may call in a session now."""

    name: str
    title: str
    description: str
    source: str = Field(description="`builtin`, or `mcp:<server>`.")
    risk: ToolRisk
    parameters: dict[str, Any] = Field(description="JSON Schema of its arguments.")
    needs_approval: bool = Field(description="Whether its calls wait for a person, in the session's approval mode.")


class SessionTools(BaseModel):
    """What the assistant may call. `unknown` was named and nobody offers it now: a server that is away, or a typo."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "approval_mode": "risky",
                "items": [
                    {
                        "name": "fetch_url",
                        "title": "Fetch a page",
                        "description": "Reads a public web page.",
                        "source": "builtin",
                        "risk": "risky",
                        "parameters": _PARAMETERS,
                        "needs_approval": True,
                    }
                ],
                "unknown": ["mcp:calendar"],
            }
        }
    )

    approval_mode: ApprovalMode
    items: list[SessionToolRead]
    unknown: list[str]
