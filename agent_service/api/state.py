"""What the routes work with, made once per application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from agent_service.application.collections import Collections
from agent_service.application.index_document import DocumentIndexer
from agent_service.application.regenerate import Regeneration
from agent_service.application.run_tools import ToolRunner
from agent_service.application.run_turn import ModelDefaults, TurnRunner
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.ports.embedder import Embedder
from agent_service.ports.key_introspection import KeyIntrospector
from agent_service.ports.passages import PassageSearch
from shared.contracts.chat import Provider
from shared.openai.response import BegunTurns
from shared.remembered_tokens import RememberedTokens
from shared.security import TokenSigner

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AgentState:
    turns: TurnRunner
    catalog: ToolCatalog
    tool_runner: ToolRunner
    embedder: Embedder
    documents: DocumentIndexer
    searches: PassageSearch
    collections: Collections
    regeneration: Regeneration
    keys: KeyIntrospector
    callers: TokenSigner
    configured: frozenset[Provider]
    defaults: ModelDefaults
    heartbeat_seconds: float
    required_probes: Mapping[str, Probe]
    optional_probes: Mapping[str, Probe]
    registry: CollectorRegistry
    begun: BegunTurns = field(default_factory=BegunTurns)
    remembered: RememberedTokens[str] = field(default_factory=RememberedTokens)


async def _state(request: Request) -> AgentState:
    # Not because it waits for anything: FastAPI hands plain functions to a thread, for every request.
    state: AgentState = request.app.state.agent
    return state


State = Annotated[AgentState, Depends(_state)]
