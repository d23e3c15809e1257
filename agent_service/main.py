"""Puts the agent service together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from agent_service.adapters.wiring import Parts, assemble
from agent_service.api import chat, collections, completions, embeddings, health, models, providers, regenerate, tools
from agent_service.api.state import AgentState
from agent_service.config import AgentSettings
from shared.contracts.chat import MAX_BASE64_CHARACTERS, ChatEvent
from shared.contracts.knowledge import IndexEvent
from shared.openai.errors import openai_shape_at
from shared.security import ServiceName, service_signer
from shared.telemetry import HttpMetrics
from shared.web.middleware import LargeBody, RequestMiddleware
from shared.web.openapi import add_schema, complete
from shared.web.responses import install_problem_handlers
from shared.web.server import serve

_DESCRIPTION = "Everything that touches a model. Keeps no conversations: all that a turn needs comes in the request."
_TAGS = [
    {"name": "chat", "description": "Turns of a conversation."},
    {"name": "collections", "description": "Documents as passages, put and searched."},
    {"name": "tools", "description": "What a model may call, and MCP servers."},
    {"name": "models", "description": "Providers and their models."},
    {"name": "openai-compatible", "description": "What OpenAI's clients call. Errors take OpenAI's shape here."},
    {"name": "health", "description": "For load balancers and Prometheus."},
]


def _gathered() -> APIRouter:
    gathered = APIRouter()
    for module in (chat, completions, collections, tools, providers, models, embeddings, regenerate, health):
        gathered.include_router(module.router)
    return gathered


_ROUTES = _gathered()
"""Gathered once, because FastAPI works out every route of a router again for each application that includes it."""

_ERRORS = openai_shape_at(re.compile(r"/v1/(chat/completions|models(/.*)?|embeddings)"))


def create_app(settings: AgentSettings, assemble_parts: Callable[[AgentSettings], Parts] = assemble) -> FastAPI:
    parts = assemble_parts(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()
        # The signal may interrupt anything: the turns are ended by the loop, in its own time.
        app.state.stop = lambda: loop.call_soon_threadsafe(parts.turns.stop)
        await parts.start()
        try:
            yield
        finally:
            parts.turns.stop()
            await parts.aclose()

    app = FastAPI(
        title="Colloquy agent service",
        version="1",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.stop = parts.turns.stop
    app.state.agent = AgentState(
        turns=parts.turns,
        catalog=parts.catalog,
        tool_runner=parts.tool_runner,
        embedder=parts.embedder,
        documents=parts.index.documents,
        searches=parts.index.searches,
        collections=parts.index.collections,
        regeneration=parts.index.regeneration,
        keys=parts.keys,
        callers=service_signer(settings.service_keys, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE),
        configured=frozenset(parts.models),
        defaults=settings.model_defaults,
        heartbeat_seconds=settings.stream_heartbeat_seconds,
        required_probes=parts.required_probes,
        optional_probes=parts.optional_probes,
        registry=parts.registry,
    )
    app.router.routes.extend(_ROUTES.routes)
    install_problem_handlers(app, _ERRORS)
    app.add_middleware(
        RequestMiddleware,
        max_body_bytes=settings.max_body_bytes,
        metrics=HttpMetrics(parts.registry),
        shape=_ERRORS,
        # The pictures of a turn come on top of a conversation that may be as long as it likes.
        large_bodies=[
            LargeBody(
                "POST", re.compile(f"{chat.PATH}|{completions.PATH}"), settings.max_body_bytes + MAX_BASE64_CHARACTERS
            )
        ],
    )
    _document_events(app)
    return app


def run(settings: AgentSettings) -> int:
    """Serve until told to stop. Returns the exit code."""
    app = create_app(settings)

    def stop() -> None:
        # Looked up at the signal: the application's start puts the right one there.
        app.state.stop()

    came_up = serve(
        app,
        host=settings.agent_host,
        port=settings.agent_port,
        shutdown_seconds=settings.shutdown_seconds,
        on_stop=stop,
    )
    return 0 if came_up else 1


def _document_events(app: FastAPI) -> None:
    """Write the events of a turn into the OpenAPI document: no route returns them as its model."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(generate())
            add_schema(app.openapi_schema, "ChatEvent", ChatEvent)
            add_schema(app.openapi_schema, "IndexEvent", IndexEvent)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
