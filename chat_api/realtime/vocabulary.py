"""What the events of a session carry: one vocabulary for WebSockets and event streams, with an example of each.

The frames are built by PostgreSQL and go out as they come, so these models are no part of sending. They are what a
client may rely on: the document of the WebSockets is made of them, and tests hold what is sent to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

from chat_api.messages.schemas import MESSAGE_EXAMPLE, MessageRead
from chat_api.realtime.frames import PresenceData, TypingData
from chat_api.runs.schemas import REPLY_EXAMPLE, RUN_EXAMPLE, MessageCitations, MessageDelta, RunRead
from chat_api.sessions.models import EventType, ParticipantRole
from chat_api.tools.schemas import TOOL_EXECUTION_EXAMPLE, ToolExecutionRead
from shared.schema import Timestamp

_SESSION = MESSAGE_EXAMPLE["session_id"]
_ROSA = MESSAGE_EXAMPLE["sender"]
_PROBLEM = {
    "type": "about:blank",
    "title": "The agent is unavailable",
    "status": 503,
    "detail": "The agent does not answer. Regenerate the reply to try again.",
    "code": "agent-unavailable",
}


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DeletedMessage(_Data):
    """A message that is no more. `seq` and `deleted_at` are null where the whole history was cleared."""

    id: UUID
    session_id: UUID
    seq: int | None
    deleted_at: Timestamp | None


class Reactions(_Data):
    """All reactions to a message as they are now: who chose which emoji."""

    message_id: UUID
    reactions: dict[str, list[UUID]]


class ReadReceipt(_Data):
    user_id: UUID
    seq: int = Field(description="`seq` of the last message that they have read.")


class Joined(_Data):
    user_id: UUID
    username: str
    role: ParticipantRole


class Left(_Data):
    user_id: UUID
    username: str
    removed_by: UUID | None = Field(description="Null for somebody who left by themselves.")


class ForgottenExecution(_Data):
    """Of a call that is no more: the history was cleared since."""

    id: UUID
    session_id: UUID
    run_id: UUID


class SessionChanges(_Data):
    """What was changed. `messages` among the fields says that the history was cleared."""

    fields: list[str]
    changes: dict[str, Any] = Field(
        default_factory=dict, description="The new values, by the names they have in a session."
    )
    cleared_through_seq: int | None = Field(
        default=None, description="`seq` of the last message that was cleared away; absent for other changes."
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event. `frame` is what a WebSocket gets; an event stream gets its `data` alone."""

    kind: str
    title: str
    summary: str
    data: type[BaseModel] | UnionType
    example: dict[str, Any]
    is_durable: bool
    in_streams: bool

    @property
    def frame(self) -> type[BaseModel]:
        fields: dict[str, Any] = {"type": (Literal[self.kind], ...), "session_id": (UUID, ...)}
        if self.is_durable:
            number = Field(description="1, 2, 3 … in the session, without gaps.")
            fields["event_seq"] = (int, number)
        fields["data"] = (self.data, ...)
        name = "".join(word.capitalize() for word in self.kind.replace(".", " ").replace("_", " ").split())
        return create_model(f"{name}Event", __config__=ConfigDict(extra="forbid"), **fields)

    @property
    def frame_example(self) -> dict[str, Any]:
        number = {"event_seq": 42} if self.is_durable else {}
        return {"type": self.kind, "session_id": _SESSION, **number, "data": self.example}


def _durable(
    kind: EventType,
    title: str,
    summary: str,
    data: type[BaseModel] | UnionType,
    example: dict[str, Any],
    *,
    in_streams: bool = False,
) -> Event:
    return Event(kind.value, title, summary, data, example, is_durable=True, in_streams=in_streams)


def _run(kind: EventType, title: str, summary: str, **changes: Any) -> Event:
    return _durable(kind, title, summary, RunRead, RUN_EXAMPLE | changes, in_streams=True)


def _tool(kind: EventType, title: str, summary: str, **changes: Any) -> Event:
    # An event stream is over before a history can be cleared, so it has executions only.
    data = ToolExecutionRead | ForgottenExecution
    return _durable(kind, title, summary, data, TOOL_EXECUTION_EXAMPLE | changes, in_streams=True)


_RAN = {"expires_at": None, "attempts": 1, "started_at": "2026-01-31T09:30:00.004000Z"}
_ENDED = _RAN | {"duration_ms": 310, "finished_at": "2026-01-31T09:30:00.314000Z"}
_DECIDED = {"decided_by": _ROSA["id"], "decided_at": "2026-01-31T09:31:00.000000Z"}
_TIMED_OUT = {
    "type": "about:blank",
    "title": "The tool took too long",
    "status": 504,
    "detail": "It did not answer within 20 s.",
    "code": "tool-timed-out",
}

DURABLE = (
    _durable(
        EventType.MESSAGE_CREATED,
        "Message created",
        "Somebody said something, or a reply began: then it is empty, and `message.delta` brings its text.",
        MessageRead,
        MESSAGE_EXAMPLE,
        in_streams=True,
    ),
    _durable(
        EventType.MESSAGE_UPDATED,
        "Message updated",
        "A reply is complete, or somebody edited what they said.",
        MessageRead,
        REPLY_EXAMPLE,
        in_streams=True,
    ),
    _durable(
        EventType.MESSAGE_DELETED,
        "Message deleted",
        "A message was deleted. Its place in the order stays.",
        DeletedMessage,
        {"id": MESSAGE_EXAMPLE["id"], "session_id": _SESSION, "seq": 1, "deleted_at": "2026-01-31T09:31:00.000000Z"},
    ),
    _run(
        EventType.RUN_STARTED,
        "Run started",
        "The assistant begins to answer.",
        status="running",
        usage=None,
        finished_at=None,
    ),
    _run(EventType.RUN_COMPLETED, "Run completed", "The answer is whole."),
    _run(
        EventType.RUN_FAILED,
        "Run failed",
        "There is no more to come; `error` says why.",
        status="failed",
        error=_PROBLEM,
    ),
    _run(EventType.RUN_CANCELLED, "Run cancelled", "Somebody stopped it. What was said is kept.", status="cancelled"),
    _run(
        EventType.RUN_AWAITING_APPROVAL,
        "Run awaits approval",
        "Calls of tools wait for somebody's decision; the run goes on when none does any more.",
        status="awaiting_approval",
        finished_at=None,
    ),
    _tool(
        EventType.TOOL_REQUESTED,
        "Tool requested",
        "The assistant calls a tool. Whether it runs or waits for somebody comes next.",
    ),
    _tool(EventType.TOOL_APPROVAL_REQUIRED, "Tool needs approval", "The call waits for a person, until `expires_at`."),
    _tool(EventType.TOOL_APPROVED, "Tool approved", "Somebody let it run.", status="approved", **_DECIDED),
    _tool(EventType.TOOL_STARTED, "Tool started", "It runs now.", status="running", **_RAN),
    _tool(
        EventType.TOOL_COMPLETED,
        "Tool completed",
        "It answered, and the model is told.",
        status="succeeded",
        result="High water at 14:10.",
        **_ENDED,
    ),
    _tool(
        EventType.TOOL_FAILED,
        "Tool failed",
        "It went wrong or took too long, and the model is told; `error` says why.",
        status="timed_out",
        result="The call failed: it did not answer within 20 s.",
        error=_TIMED_OUT,
        **_ENDED,
    ),
    _tool(
        EventType.TOOL_REJECTED,
        "Tool rejected",
        "Somebody refused it, or nobody decided in time. It is not run, and the model is told.",
        status="rejected",
        reason="Ask the harbour office.",
        finished_at=_DECIDED["decided_at"],
        **_DECIDED,
    ),
    _durable(
        EventType.REACTION_UPDATED,
        "Reaction updated",
        "Somebody reacted to a message, or took it back.",
        Reactions,
        {"message_id": MESSAGE_EXAMPLE["id"], "reactions": {"👍": [_ROSA["id"]]}},
    ),
    _durable(
        EventType.READ_UPDATED,
        "Read receipt",
        "Somebody has read further.",
        ReadReceipt,
        {"user_id": _ROSA["id"], "seq": 2},
    ),
    _durable(
        EventType.PARTICIPANT_JOINED,
        "Participant joined",
        "Somebody was added to the session.",
        Joined,
        {"user_id": _ROSA["id"], "username": "rosa", "role": "member"},
    ),
    _durable(
        EventType.PARTICIPANT_LEFT,
        "Participant left",
        "Somebody left, or was removed.",
        Left,
        {"user_id": _ROSA["id"], "username": "rosa", "removed_by": None},
    ),
    _durable(
        EventType.SESSION_UPDATED,
        "Session updated",
        "The session itself was changed.",
        SessionChanges,
        {"fields": ["title"], "changes": {"title": "Holiday plans"}},
    ),
)
EPHEMERAL = (
    Event(
        "message.delta",
        "More of a reply",
        "Text to append to a reply. One that is missed comes with `message.updated`, where all of it is.",
        MessageDelta,
        {"message_id": REPLY_EXAMPLE["id"], "offset": 0, "text": "People"},
        is_durable=False,
        in_streams=True,
    ),
    Event(
        "message.citations",
        "Passages of a reply",
        "What a reply stands on, after its last delta.",
        MessageCitations,
        {
            "message_id": REPLY_EXAMPLE["id"],
            "citations": [
                {
                    "index": 1,
                    "document_id": "0198f3a2-c4e4-7d0c-8f3e-6b1a2d4c5e6f",
                    "document_name": "harbour.md",
                    "chunk_id": "0198f3a2-c4e5-7d0c-8f3e-6b1a2d4c5e6f",
                    "page": None,
                    "score": 0.82,
                    "snippet": "The harbour opens at six.",
                }
            ],
        },
        is_durable=False,
        in_streams=True,
    ),
    Event(
        "typing",
        "Typing",
        "Somebody else writes, or stopped. Forget it after six seconds without another one.",
        TypingData,
        {"user_id": _ROSA["id"], "username": "rosa", "active": True},
        is_durable=False,
        in_streams=False,
    ),
    Event(
        "presence",
        "Presence",
        "Somebody came or went: they follow the session with one socket at least, or with none any more.",
        PresenceData,
        {"user_id": _ROSA["id"], "username": "rosa", "online": True},
        is_durable=False,
        in_streams=False,
    ),
)
EVENTS = (*DURABLE, *EPHEMERAL)
