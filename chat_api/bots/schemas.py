"""What bots look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from chat_api.bots.models import AgentType, Visibility
from shared.contracts.chat import Provider
from shared.contracts.knowledge import MAX_TOP_K, SearchMode
from shared.contracts.tools import ToolPattern
from shared.schema import ReadSchema, Timestamp, WriteSchema

# A name follows an `@` in a message, so it holds none itself, stays on its line, and has no spaces around it.
_NAME = r"^[^\s@\x00-\x1f\x7f-\x9f]([^@\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s@\x00-\x1f\x7f-\x9f])?$"
BotName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=_NAME),
    Field(description="What people call it by, as `@name`. Any letters; no `@`, no line break, no space around it."),
]
Description = Annotated[str, Field(max_length=2_000, description="For people who choose a bot.")]
BotPrompt = Annotated[
    str | None,
    Field(max_length=20_000, description="Comes before the session's own. Everybody who sees the bot can read it."),
]
ModelName = Annotated[str | None, Field(min_length=1, max_length=200)]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
MaxTokens = Annotated[int | None, Field(ge=1, le=100_000)]
HistoryLength = Annotated[int | None, Field(ge=1, le=200, description="Messages the model is shown.")]
Tools = Annotated[list[ToolPattern], Field(max_length=50, description="Names of the tools it may use.")]
TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K, description="Passages the model is shown.")]
MinScore = Annotated[float, Field(ge=0, le=1, description="Passages below it are left out.")]

_DEFAULT_TOP_K = 5
_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
_EXAMPLE: dict[str, Any] = {
    "id": _EXAMPLE_ID,
    "owner_id": _EXAMPLE_ID,
    "name": "Harbour guide",
    "description": "Knows the harbour's rules.",
    "system_prompt": "You answer visitors of the harbour.",
    "provider": None,
    "model": None,
    "configuration": {
        "agent_type": "rag",
        "temperature": 0.2,
        "max_tokens": None,
        "chat_history_length": None,
        "tools": [],
        "retrieval": {"mode": "hybrid", "top_k": 5, "min_score": 0.0},
    },
    "visibility": "shared",
    "created_at": "2026-01-31T09:29:00.000000Z",
    "updated_at": "2026-01-31T09:29:00.000000Z",
}


class Retrieval(WriteSchema):
    """How passages of the bot's documents are found."""

    mode: SearchMode = SearchMode.HYBRID
    top_k: TopK = _DEFAULT_TOP_K
    min_score: MinScore = 0.0


class BotConfiguration(WriteSchema):
    """How the model is asked. What a session sets itself wins over it.

    `chat` asks the model alone. `rag` looks into the bot's documents before it asks. `react` leaves it to the model
    when to look, by the tool `search_knowledge`. All of them call the `tools`.
    """

    agent_type: AgentType = AgentType.RAG
    temperature: Temperature = None
    max_tokens: MaxTokens = None
    chat_history_length: HistoryLength = None
    tools: Tools = Field(default_factory=list)
    retrieval: Retrieval = Field(default_factory=Retrieval)


class RetrievalPatch(WriteSchema):
    mode: SearchMode = Field(default_factory=lambda: SearchMode.HYBRID)
    top_k: TopK = Field(default_factory=lambda: _DEFAULT_TOP_K)
    min_score: MinScore = Field(default_factory=float)


class BotConfigurationPatch(WriteSchema):
    """Only the fields that are sent change, at both levels."""

    agent_type: AgentType = Field(default_factory=lambda: AgentType.RAG)
    temperature: Temperature = None
    max_tokens: MaxTokens = None
    chat_history_length: HistoryLength = None
    tools: Tools = Field(default_factory=list)
    retrieval: RetrievalPatch = Field(default_factory=RetrievalPatch)


class BotCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "Harbour guide",
                "system_prompt": "You answer visitors of the harbour.",
                "configuration": {"agent_type": "rag", "retrieval": {"top_k": 5, "mode": "hybrid"}},
            }
        },
    )

    name: BotName
    description: Description = ""
    system_prompt: BotPrompt = None
    provider: Provider | None = None
    model: ModelName = None
    configuration: BotConfiguration = Field(default_factory=BotConfiguration)
    visibility: Visibility = Visibility.PRIVATE


class BotPatch(WriteSchema):
    """Only the fields that are sent change. Null resets a field that may be empty.

    The defaults mean nothing. They are factories so that the OpenAPI document names none: a generated client
    would send it with every change.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"visibility": "shared"}})

    name: BotName = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    system_prompt: BotPrompt = None
    provider: Provider | None = None
    model: ModelName = None
    configuration: BotConfigurationPatch = Field(default_factory=BotConfigurationPatch)
    visibility: Visibility = Field(default_factory=lambda: Visibility.PRIVATE)


class BotRead(ReadSchema):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _EXAMPLE})

    id: UUID
    owner_id: UUID
    name: str
    description: str
    system_prompt: str | None
    provider: Provider | None
    model: str | None
    configuration: BotConfiguration
    visibility: Visibility
    created_at: Timestamp
    updated_at: Timestamp


class BotShareRead(ReadSchema):
    """Somebody who may use the bot while it is `shared`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"user_id": _EXAMPLE_ID, "username": "ada", "created_at": "2026-01-31T09:30:00.000000Z"}
        }
    )

    user_id: UUID
    username: str
    created_at: Timestamp
