"""What a model may have done: tools, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from shared.contracts.knowledge import Passage, RetrievalOptions
from shared.contracts.tools import ToolRisk, ToolSourceRead

BUILTIN = "builtin"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """`name` is what the model calls it by. `source` is `builtin` or `mcp:<server>`.

    `parameters` is the JSON Schema of an object. A `repeatable` tool may be run again when nobody knows how it ended.
    `redacted_arguments` and `redact_result` are what no log may show.
    """

    name: str
    title: str
    description: str
    source: str
    risk: ToolRisk
    repeatable: bool
    parameters: dict[str, Any]
    timeout_seconds: float
    redacted_arguments: frozenset[str] = frozenset()
    redact_result: bool = False


@dataclass(frozen=True, slots=True)
class ToolContext:
    """On whose behalf a tool runs. `owner_id` None is a service, which may search every collection.

    `user_id` is the person who asked, `session_id` where: messages are found only where everybody there may read.
    """

    run_id: UUID
    owner_id: UUID | None = None
    user_id: UUID | None = None
    session_id: UUID | None = None
    collections: Sequence[UUID] = ()
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool says: plain text for the model, and the passages that it quotes, where it does."""

    text: str
    passages: Sequence[Passage] = ()


class ToolFailed(Exception):
    """The tool did not do it. The message is for the model, and for whoever reads the log of tools.

    `retryable`: the same call may go well in a moment. `outcome_unknown`: it may have done its work nevertheless.
    """

    def __init__(self, message: str, *, retryable: bool = False, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        """Do it. The arguments fit `spec.parameters`. Cancelled when its time is up.

        Raises `ToolFailed`; anything else that it raises is a defect of the tool, and is told as one.
        """
        ...


class ToolSource(Protocol):
    """A set of tools that comes and goes as one, such as a server."""

    @property
    def name(self) -> str:
        """As in `ToolSpec.source`."""
        ...

    def tools(self) -> Sequence[Tool]:
        """Those that can be called now. Does not wait."""
        ...

    def state(self) -> ToolSourceRead: ...

    async def start(self) -> None:
        """Begin to be there. Returns at once, and never raises for what is on the other side."""
        ...

    async def aclose(self) -> None: ...


class MessageSearch(Protocol):
    """Finds messages that somebody may read. Only the chat API knows them."""

    async def search(self, query: str, context: ToolContext, *, limit: int) -> str:
        """What was found, as text for a model. Raises `ToolFailed`."""
        ...
