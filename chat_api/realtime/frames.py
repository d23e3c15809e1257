"""What travels over a WebSocket: one JSON object a frame, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from chat_api.messages.schemas import MESSAGE_EXAMPLE, MessageRead
from chat_api.runs.schemas import ClientId, MessageCreate
from chat_api.sessions.schemas import SessionRead
from chat_api.tools.schemas import ToolReason
from shared.contracts.tools import ToolVerdict
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, WriteSchema

_SESSION = MESSAGE_EXAMPLE["session_id"]
_USER = MESSAGE_EXAMPLE["sender"]["id"]
_MAX_SEQ = 2**63 - 1

Seq = Annotated[int, Field(ge=0, le=_MAX_SEQ)]


def _example(**frame: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"example": frame})


# -- client → server ------------------------------------------------------------------------------------------


class Authenticate(WriteSchema):
    """The first frame of a socket that was opened without a ticket, within 10 s."""

    model_config = _example(type="authenticate", token="eyJhbGciOi…")  # noqa: S106 - an example

    type: Literal["authenticate"]
    token: str = Field(min_length=1, max_length=4096, description="An access token or an API key.")


class Subscribe(WriteSchema):
    """Follow a session. With `after_seq`, everything after that event comes first."""

    model_config = _example(type="subscribe", session_id=_SESSION, after_seq=41)

    type: Literal["subscribe"]
    session_id: UUID
    after_seq: Seq | None = Field(default=None, description="`event_seq` of the last event you have.")


class Unsubscribe(WriteSchema):
    """Follow a session no more."""

    model_config = _example(type="unsubscribe", session_id=_SESSION)

    type: Literal["unsubscribe"]
    session_id: UUID


class SendMessage(MessageCreate):
    """Say something. Answered by `ack` once it is stored, or by `error`."""

    model_config = _example(type="message.send", session_id=_SESSION, client_id="a1", content="Hello")

    type: Literal["message.send"]
    session_id: UUID
    client_id: ClientId = Field(description="Your own id for this message: sent again, it is stored once.")


class Typing(WriteSchema):
    """Tell the others that one writes, or no more. Say it again every few seconds: it is forgotten after six."""

    model_config = _example(type="typing", session_id=_SESSION, active=True)

    type: Literal["typing"]
    session_id: UUID
    active: bool


class Read(WriteSchema):
    """Mark a session as read up to a message. Never moves back."""

    model_config = _example(type="read", session_id=_SESSION, seq=7)

    type: Literal["read"]
    session_id: UUID
    seq: Seq


class CancelRun(WriteSchema):
    """Stop a run. `run.cancelled` follows."""

    model_config = _example(type="run.cancel", run_id=_SESSION)

    type: Literal["run.cancel"]
    run_id: UUID


class DecideTool(WriteSchema):
    """Approve a call of a tool, or reject it. All who follow the session get `tool.approved` or `tool.rejected`.

    `arguments` come with an approval, in place of the model's, and `reason` with a rejection. The same decision again
    is refused with `already-decided`.
    """

    model_config = _example(
        type="tool.decide", execution_id=_SESSION, decision="reject", reason="Ask the harbour office."
    )

    type: Literal["tool.decide"]
    execution_id: UUID
    decision: ToolVerdict
    arguments: dict[str, Any] | None = Field(default=None, description="All of them, as for approving over REST.")
    reason: ToolReason = None

    @model_validator(mode="after")
    def _each_verdict_has_its_own(self) -> Self:
        if self.arguments is not None and self.decision is not ToolVerdict.APPROVE:
            raise PydanticCustomError("arguments_of_rejection", "Only an approval may change the arguments")
        if self.reason is not None and self.decision is not ToolVerdict.REJECT:
            raise PydanticCustomError("reason_of_approval", "Only a rejection has a reason")
        return self


class Ping(WriteSchema):
    """Ask whether anybody is there."""

    model_config = _example(type="ping")

    type: Literal["ping"]


ClientFrame = Annotated[
    Authenticate | Subscribe | Unsubscribe | SendMessage | Typing | Read | CancelRun | DecideTool | Ping,
    Field(discriminator="type"),
]
CLIENT_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)


# -- server → client ------------------------------------------------------------------------------------------


class Someone(ReadSchema):
    """A person, as everybody may see them."""

    id: UUID
    username: str


class Ready(BaseModel):
    """The socket is open, and this is who it is for."""

    model_config = _example(type="ready", connection_id="0198f3a2c4e1", user={"id": _USER, "username": "rosa"})

    type: Literal["ready"] = "ready"
    connection_id: str
    user: Someone


class Subscribed(BaseModel):
    """You follow the session now. `recovered` says whether everything after your `after_seq` comes next.

    Where it is false (none was named, or too much was missed), read the session over REST; events after
    `last_event_seq` come by themselves.
    """

    type: Literal["subscribed"] = "subscribed"
    session_id: UUID
    session: SessionRead
    last_event_seq: int
    recovered: bool
    presence: list[Someone]


class Unsubscribed(BaseModel):
    """You follow the session no more: because you asked (`reason` null), were removed, or it was deleted."""

    model_config = _example(type="unsubscribed", session_id=_SESSION, reason="session-not-found")

    type: Literal["unsubscribed"] = "unsubscribed"
    session_id: UUID
    reason: str | None = None


class Ack(BaseModel):
    """The message with this `client_id` is stored: it will not be lost."""

    model_config = _example(type="ack", client_id="a1", message=MESSAGE_EXAMPLE)

    type: Literal["ack"] = "ack"
    client_id: str
    message: MessageRead


class InReplyTo(BaseModel):
    """Which of your frames is meant, as far as it could be read."""

    type: str | None = None
    session_id: UUID | None = None
    client_id: str | None = None
    run_id: UUID | None = None
    execution_id: UUID | None = None


class Error(BaseModel):
    """A frame of yours was refused, or the socket is about to be closed."""

    model_config = _example(
        type="error",
        problem={
            "type": "about:blank",
            "title": "Session not found",
            "status": 404,
            "detail": "There is no such session, or you do not take part in it.",
            "code": "session-not-found",
            "request_id": None,
        },
        in_reply_to={"type": "subscribe", "session_id": _SESSION, "client_id": None, "run_id": None},
    )

    type: Literal["error"] = "error"
    problem: ProblemDocument
    in_reply_to: InReplyTo | None
    retry_after: int | None = Field(default=None, description="Seconds after which trying again makes sense.")


class Pong(BaseModel):
    """Yes."""

    model_config = _example(type="pong")

    type: Literal["pong"] = "pong"


class TypingData(BaseModel):
    user_id: UUID
    username: str
    active: bool


class PresenceData(BaseModel):
    user_id: UUID
    username: str
    online: bool


ServerFrame = Ready | Subscribed | Unsubscribed | Ack | Error | Pong


def ephemeral(kind: str, session_id: UUID, data: bytes) -> bytes:
    """A frame of what is worth nothing a second later: it has no number. `data` is JSON."""
    return b'{"type":"%b","session_id":"%b","data":%b}' % (kind.encode(), str(session_id).encode(), data)


def subscribed(
    session_id: UUID, session: bytes, *, last_event_seq: int, recovered: bool, presence: list[dict[str, str]]
) -> bytes:
    """`Subscribed` around a session that is JSON already."""
    return b'{"type":"subscribed","session_id":"%b","session":%b,"last_event_seq":%d,"recovered":%b,"presence":%b}' % (
        str(session_id).encode(),
        session,
        last_event_seq,
        b"true" if recovered else b"false",
        orjson.dumps(presence),
    )


def ack(client_id: str, message: bytes) -> bytes:
    """`Ack` around a message that is JSON already."""
    return b'{"type":"ack","client_id":%b,"message":%b}' % (orjson.dumps(client_id), message)
