"""What the server of the protocol takes and gives: its messages, and the arguments and answers of its tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints

from shared.contracts.knowledge import Passage
from shared.contracts.tools import FoundMessage
from shared.schema import ReadSchema, WriteSchema

MOST_PASSAGES = 20
USUAL_PASSAGES = 5
"""Where no bot is named; a bot has a number of its own."""
MOST_BOTS = 100


MessageId = StrictInt | Annotated[str, StringConstraints(strict=True, max_length=200)]


class McpMessage(WriteSchema):
    """One request or notification of JSON-RPC 2.0. What has no `id` is a notification, and has no answer."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "search_messages", "arguments": {"query": "harbour fees"}},
            }
        },
    )

    jsonrpc: Literal["2.0"]
    id: MessageId | None = Field(default=None, title="Message id")
    method: str = Field(min_length=1, max_length=200)
    params: dict[str, Any] | None = None


class McpError(ReadSchema):
    """An error of JSON-RPC: -32601 for a method that is not offered, -32602 for parameters that do not fit."""

    code: int
    message: str


class McpAnswer(BaseModel):
    """The answer to one request: `result`, or `error`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "jsonrpc": "2.0",
                "id": 1,
                "result": {"content": [{"type": "text", "text": '{"items": []}'}], "isError": False},
            }
        },
    )

    jsonrpc: Literal["2.0"] = "2.0"
    id: int | str = Field(title="Message id")
    result: dict[str, Any] | None = None
    error: McpError | None = None


class SearchKnowledge(WriteSchema):
    query: str = Field(min_length=1, max_length=2_000, description="A question or some words, in any language.")
    bot_id: UUID | None = Field(
        default=None,
        description="Search the documents of this bot only. Without it: of your own bots and those shared with you.",
    )
    top_k: int | None = Field(default=None, ge=1, le=MOST_PASSAGES, strict=True, description="Passages at most.")


class KnowledgePassage(ReadSchema):
    bot_id: UUID
    document_id: UUID
    document_name: str
    heading: str | None
    page: int | None
    text: str
    score: float

    @classmethod
    def of(cls, passage: Passage) -> KnowledgePassage:
        return cls(
            bot_id=passage.collection_id,
            document_id=passage.document_id,
            document_name=passage.document_name,
            heading=passage.heading,
            page=passage.page,
            text=passage.text,
            score=passage.score,
        )


class KnowledgeFound(ReadSchema):
    """The best first."""

    passages: list[KnowledgePassage]


class SearchMessages(WriteSchema):
    query: str = Field(min_length=1, max_length=500, description="Words to look for.")
    limit: int = Field(default=10, ge=1, le=20, strict=True, description="Messages at most.")


class MessagesFound(ReadSchema):
    """The best first."""

    messages: list[FoundMessage]


class ListBots(WriteSchema):
    pass


class BotLine(ReadSchema):
    id: UUID
    name: str
    description: str | None


class BotsFound(ReadSchema):
    """The newest first."""

    bots: list[BotLine]
