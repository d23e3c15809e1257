"""The exported session, version 1, as it is written and as it is taken back; and what an import reports."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chat_api.messages.models import MessageRole, MessageStatus
from chat_api.messages.reactions import clean_emoji
from chat_api.messages.schemas import MESSAGE_EXAMPLE, Citation, MessageRead
from chat_api.messages.service import MAX_REACTIONS
from chat_api.runs.schemas import RunRead
from chat_api.sessions.models import ReplyPolicy, SessionStatus
from chat_api.sessions.schemas import Metadata, SessionRead, SessionSettings, Tag
from chat_api.tools.schemas import ToolExecutionRead
from chat_api.transfer.formats import FORMAT, VERSION
from shared.contracts.chat import Provider
from shared.contracts.tools import ApprovalMode
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, Timestamp, WriteSchema

MAX_CONTENT_CHARS = 500_000
"""More than a message that is sent may have: replies may be longer."""

_MOST = 2**31
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _plausible(moment: datetime) -> datetime:
    if moment < _EPOCH:
        raise ValueError("A moment must not be before 1970")
    return moment


Moment = Annotated[Timestamp, AfterValidator(_plausible)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Name = Annotated[str, Field(max_length=255)]


class _Exported(WriteSchema):
    """What is not known here is passed over: a later version of the format may add to it."""

    model_config = ConfigDict(extra="ignore")


class ExportedUsage(_Exported):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ExportedAttachment(_Exported):
    """A file by its name: the bytes are not in the export."""

    id: UUID
    name: Name
    content_type: Name
    size_bytes: int = Field(ge=0)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class ExportedMessage(_Exported):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                name: value
                for name, value in MESSAGE_EXAMPLE.items()
                if name not in ("session_id", "sender", "run_id", "client_id", "deleted_at")
            }
            | {"author": "rosa"}
        }
    )

    id: UUID | None = None
    seq: int | None = None
    role: MessageRole
    author: str | None = Field(default=None, max_length=100, description="Username of the person who wrote it.")
    content: str = Field(max_length=MAX_CONTENT_CHARS)
    created_at: Moment | None = None
    edited_at: Moment | None = None
    parent_id: UUID | None = Field(default=None, description="Of a reply: the message that it answers.")
    status: MessageStatus = MessageStatus.COMPLETE
    provider: Provider | None = None
    model: str | None = Field(default=None, max_length=200)
    usage: ExportedUsage | None = None
    cost: float | None = Field(default=None, ge=0, le=1_000_000)
    latency_ms: Count | None = None
    time_to_first_token_ms: Count | None = None
    citations: list[Citation] = Field(default_factory=list, max_length=1_000)
    tools_used: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=1_000)
    attachments: list[ExportedAttachment] = Field(default_factory=list, max_length=100)
    reactions: dict[Annotated[str, AfterValidator(clean_emoji)], list[Name]] = Field(
        default_factory=dict, max_length=MAX_REACTIONS, description="Usernames by emoji."
    )
    error: ProblemDocument | None = None
    metadata: Metadata = Field(default_factory=dict)


class ExportedRevision(_Exported):
    """An earlier text of a message, from `written_at` until `replaced_at`."""

    message_id: UUID
    revision: int = Field(ge=1, le=_MOST)
    content: str = Field(max_length=MAX_CONTENT_CHARS)
    written_at: Moment
    replaced_at: Moment


class ExportedParticipant(_Exported):
    user_id: UUID
    username: Name
    role: str = Field(max_length=50)


class ExportedSession(_Exported):
    id: str = Field(default="", max_length=200)
    title: str | None = Field(default=None, max_length=200)
    status: SessionStatus = SessionStatus.ACTIVE
    bot_id: UUID | None = None
    provider: Provider | None = None
    model: str | None = Field(default=None, max_length=200)
    system_prompt: str | None = Field(default=None, max_length=20_000)
    reply_policy: ReplyPolicy | None = None
    approval_mode: ApprovalMode = ApprovalMode.RISKY
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    metadata: Metadata = Field(default_factory=dict)
    settings: SessionSettings = Field(default_factory=SessionSettings)
    created_at: Moment | None = None
    participants: list[ExportedParticipant] = Field(
        default_factory=list, max_length=10_000, description="For reading: an import gives nobody access."
    )


class SessionDocument(_Exported):
    """A session as it is exported, and taken back."""

    format: Literal["colloquy.session"]
    version: Literal[1]
    exported_at: Timestamp | None = None
    session: ExportedSession
    messages: list[ExportedMessage]
    revisions: list[ExportedRevision] = Field(default_factory=list)


class FullSession(ReadSchema):
    """A session with its history, tombstones included, its runs and its calls of tools."""

    session: SessionRead
    messages: list[MessageRead]
    runs: list[RunRead]
    tool_executions: list[ToolExecutionRead]


class ImportSource(StrEnum):
    COLLOQUY = "colloquy"
    CHATGPT = "chatgpt"


class ImportOutcome(StrEnum):
    """`already_there`: the same person imported the same before, and the session is still there."""

    IMPORTED = "imported"
    ALREADY_THERE = "already_there"
    EMPTY = "empty"


class LeftOut(BaseModel):
    """What the file has and the session has not, as numbers."""

    other_branches: int = Field(default=0, description="Messages that are not on the branch shown last.")
    hidden: int = Field(default=0, description="Messages that were never shown to the person.")
    empty: int = Field(default=0, description="Messages without text.")
    unsupported: int = Field(default=0, description="Messages and parts of kinds that there are not here.")
    unknown_parents: int = Field(default=0, description="Links to messages that are not in the file.")
    attachments: int = Field(default=0, description="Files that the importer may not read here, or that are gone.")
    reactions: int = Field(default=0, description="Reactions of others.")


class ImportedConversation(BaseModel):
    """What became of one conversation of the file."""

    source: ImportSource
    source_id: str
    title: str
    outcome: ImportOutcome
    session_id: UUID | None = Field(description="Null where nothing was said in it.")
    messages: int
    left_out: LeftOut


class ImportReport(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "imported": 1,
                "already_there": 0,
                "messages": 4,
                "conversations": [
                    {
                        "source": "chatgpt",
                        "source_id": "8f3e6b1a-2d4c-4e6f-8a2b-0198f3a2c4e1",
                        "title": "Holiday plans",
                        "outcome": "imported",
                        "session_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
                        "messages": 4,
                        "left_out": {
                            "other_branches": 2,
                            "hidden": 1,
                            "empty": 0,
                            "unsupported": 0,
                            "unknown_parents": 0,
                            "attachments": 0,
                            "reactions": 0,
                        },
                    }
                ],
            }
        }
    )

    imported: int
    already_there: int
    messages: int = Field(description="That were stored.")
    conversations: list[ImportedConversation]


class ImportFingerprint(BaseModel):
    """What makes two requests the same: the form around the file differs each time."""

    sha256: str


EXAMPLE_FILE: dict[str, Any] = {
    "format": FORMAT,
    "version": VERSION,
    "session": {"title": "Holiday plans"},
    "messages": [{"role": "user", "content": "Shall we take the train?"}],
}
