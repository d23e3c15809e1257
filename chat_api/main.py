"""Assembly of the chat API: what is made at the start, in which order it ends, which routes there are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CollectorRegistry

from chat_api import health
from chat_api.admin.door import AdminDoor
from chat_api.analytics.router import router as analytics_router
from chat_api.attachments.router import FORM_BYTES
from chat_api.attachments.router import UPLOAD_PATH as ATTACHMENT_PATH
from chat_api.attachments.router import router as attachments_router
from chat_api.audit.router import router as audit_router
from chat_api.auth.authenticator import Authenticator
from chat_api.auth.openapi import add_password_grant, add_rate_limits
from chat_api.auth.rate_limiter import RateLimiter
from chat_api.auth.rate_windows import RateWindows
from chat_api.auth.request_limits import RATE_LIMIT_HEADERS, RequestLimits
from chat_api.auth.router import router as api_keys_router
from chat_api.auth.router_tickets import router as tickets_router
from chat_api.bots.router import router as bots_router
from chat_api.clients.agent import HttpAgent
from chat_api.clients.collections import HttpCollections
from chat_api.clients.embeddings import HttpTextEmbedder
from chat_api.clients.tools import HttpAgentTools
from chat_api.completions.door import CompletionDoor
from chat_api.completions.router import COMPLETION_BYTES, COMPLETION_PATH, EMBEDDING_BYTES, EMBEDDING_PATH
from chat_api.completions.router import router as completions_router
from chat_api.config import ApiSettings
from chat_api.documents.intake import Intake
from chat_api.documents.progress import DocumentWatch
from chat_api.documents.router import UPLOAD_PATH
from chat_api.documents.router import router as documents_router
from chat_api.documents.schemas import DocumentGone
from chat_api.kit.bound_route import API_PREFIX, mount_bound, operation_id
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database
from chat_api.kit.dependencies import install_store_handlers
from chat_api.kit.redis import RedisClients
from chat_api.kit.scratch import remove_abandoned
from chat_api.kit.storage import open_storage
from chat_api.kit.turns import Turns
from chat_api.mcp_server.router import router as mcp_router
from chat_api.messages.router import busy as busy_messages_router
from chat_api.messages.router import router as messages_router
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.router import router as plans_router
from chat_api.playground import router as playground
from chat_api.privacy.export import AccountExports
from chat_api.privacy.router import router as privacy_router
from chat_api.realtime.asyncapi import asyncapi_route
from chat_api.realtime.gateway import Gateway
from chat_api.realtime.router import mount_sockets
from chat_api.retention.router import router as retention_router
from chat_api.runs.engine import RunEngine
from chat_api.runs.router import busy as busy_runs_router
from chat_api.runs.router import router as runs_router
from chat_api.runs.schemas import MessageCitations, MessageDelta
from chat_api.search.router import router as search_router
from chat_api.sessions.access import AccessWatch, DatabaseMembers
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.router import router as sessions_router
from chat_api.snapshots.errors import CopiesBusy
from chat_api.snapshots.router import router as snapshots_router
from chat_api.telemetry import ProcessMetrics
from chat_api.tools.router import router as tools_router
from chat_api.transfer.importer import Importer
from chat_api.transfer.router import FORM_BYTES as IMPORT_FORM_BYTES
from chat_api.transfer.router import IMPORT_PATH
from chat_api.transfer.router import router as transfer_router
from chat_api.users.passwords import Argon2PasswordHasher, PasswordHasher
from chat_api.users.router import router as users_router
from chat_api.users.router_admin import router as admin_users_router
from chat_api.users.router_auth import router as auth_router
from chat_api.webhooks.router import router as webhooks_router
from shared.logging import configure_logging
from shared.openai.errors import openai_shape_at
from shared.telemetry import HttpMetrics, new_registry
from shared.web.middleware import LargeBody, RequestMiddleware
from shared.web.openapi import add_schema, complete
from shared.web.responses import install_problem_handlers
from shared.web.server import serve

# Routes are tried in order, so the busiest come first.
BUSY_ROUTERS = (busy_runs_router, busy_messages_router)
ROUTERS = (
    runs_router,
    messages_router,
    attachments_router,
    tools_router,
    transfer_router,
    snapshots_router,
    sessions_router,
    bots_router,
    documents_router,
    search_router,
    analytics_router,
    auth_router,
    tickets_router,
    users_router,
    plans_router,
    admin_users_router,
    api_keys_router,
    privacy_router,
    retention_router,
    audit_router,
    webhooks_router,
)


def _gathered() -> APIRouter:
    gathered = APIRouter(generate_unique_id_function=operation_id)
    for router in ROUTERS:
        gathered.include_router(router, prefix=API_PREFIX)
    gathered.include_router(completions_router)
    gathered.include_router(mcp_router)
    gathered.include_router(health.router)
    return gathered


_ROUTES = _gathered()
"""Gathered once, because FastAPI works out every route of a router again for each application that includes it."""

_ERRORS = openai_shape_at(re.compile(r"/v1/.*"))

DESCRIPTION = """
Users, bots, sessions, messages and runs, in PostgreSQL, over REST, server-sent events and WebSockets.

* WebSockets are described at `/asyncapi.json`.
* Errors are problem documents (RFC 9457) with a stable `code`.
* Lists are pages: `next_cursor` of one is `cursor` of the next.
* `X-Request-ID` is taken or made, and found again in the logs of both services.
* Every creating POST takes `Idempotency-Key`; a message may carry a `client_id` instead.
"""
TAGS = [
    {"name": "Accounts", "description": "Registering, signing in, oneself and others."},
    {"name": "API keys", "description": "Long-lived credentials for programs."},
    {"name": "Sessions", "description": "Conversations and their settings."},
    {"name": "Messages", "description": "What was said, and saying more."},
    {"name": "Runs", "description": "Answers of the assistant: followed, read, cancelled."},
    {"name": "Tools", "description": "What the assistant may call and has called; approving and rejecting calls."},
    {"name": "Bots", "description": "Assistants with a prompt, a model and documents of their own."},
    {"name": "Documents", "description": "What bots know: uploaded, watched, searched, deleted."},
    {"name": "Search", "description": "Finding again what was said."},
    {"name": "Analytics", "description": "What was said, used and spent, by day, model and tool."},
    {"name": "Webhooks", "description": "Events told to addresses of yours, signed, until they are taken."},
    {"name": "OpenAI-compatible", "description": "What OpenAI's clients call, for models and bots. Errors as theirs."},
    {"name": "MCP", "description": "Knowledge and messages for programs that speak the Model Context Protocol."},
    {"name": "Administration", "description": "For administrators: what was done, and tidying up."},
    {"name": "Health", "description": "For load balancers and Prometheus."},
]


def create_app(
    settings: ApiSettings,
    *,
    clock: Clock | None = None,
    agent_transport: httpx.AsyncBaseTransport | None = None,
    passwords: PasswordHasher | None = None,
) -> FastAPI:
    """The application. Tests hand in a clock, a transport in the agent's place, or a hasher that costs nothing."""
    registry = new_registry()

    app = FastAPI(
        title="Colloquy chat API",
        version="0.1.0",
        summary="The conversation backend.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan(settings, agent_transport),
        generate_unique_id_function=operation_id,
        # A redirect would lead a body, and its credential, to an address that nobody documented.
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.settings = settings
    app.state.clock = clock or SystemClock()
    app.state.copies = Turns(CopiesBusy)
    app.state.passwords = passwords or Argon2PasswordHasher()
    app.state.metrics = registry
    app.state.process_metrics = ProcessMetrics(registry)
    _add_routes(app, settings)
    install_problem_handlers(app, _ERRORS)
    install_store_handlers(app)
    _add_middleware(app, settings, registry)
    _document_what_routes_cannot_say(app)
    return app


def _lifespan(
    settings: ApiSettings, agent_transport: httpx.AsyncBaseTransport | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(remove_abandoned)
        state = app.state
        state.database = await Database.open(settings)
        state.plans = PlansOfPeople(state.database, settings)
        state.redis = RedisClients.from_settings(settings)
        state.agent = HttpAgent(settings, transport=agent_transport)
        state.collections = HttpCollections(settings, transport=agent_transport)
        state.agent_tools = HttpAgentTools(settings, transport=agent_transport)
        state.text_embedder = HttpTextEmbedder(settings, transport=agent_transport)
        state.completions = CompletionDoor(settings, transport=agent_transport)
        state.storage = open_storage(settings)
        state.importer = Importer(state.clock, max_messages=settings.max_session_copy_messages)
        state.intake = Intake(state.database, state.storage, state.clock, state.plans)
        state.document_watch = DocumentWatch(
            state.database,
            idle_seconds=settings.sse_keepalive_seconds,
            longest_seconds=settings.document_watch_seconds,
        )
        state.authenticator = Authenticator(settings, state.database, state.clock)
        state.authenticator.closed.start()
        state.account_exports = AccountExports(state.database, state.storage, state.clock)
        windows = None if state.redis is None else RateWindows(state.redis.commands)
        state.rate_limiter = RateLimiter(windows, seconds=settings.rate_limit_seconds)
        state.request_limits = RequestLimits(state.rate_limiter, state.plans, settings)
        state.hints = SessionHints(None if state.redis is None else state.redis.commands)
        state.hints.start()
        state.access = AccessWatch(DatabaseMembers(state.database), state.hints)
        state.access.start()
        state.runs = RunEngine(
            settings, state.database, state.redis, state.agent, state.hints, state.storage, state.plans
        )
        state.gateway = Gateway(
            settings, state.database, state.redis, state.hints, state.authenticator, state.runs, state.clock
        )
        state.process_metrics.watch(settings, state.database, state.redis, state.runs.executor)
        state.process_metrics.watch_sockets(state.gateway)
        state.runs.start()
        state.gateway.start()
        state.document_watch.start()
        try:
            yield
        finally:
            await state.document_watch.close()
            await state.gateway.close()
            await state.runs.close()
            await state.access.close()
            await state.authenticator.closed.close()
            await state.agent.close()
            await state.collections.close()
            await asyncio.gather(state.agent_tools.close(), state.text_embedder.close())
            await state.completions.close()
            await state.rate_limiter.close()
            await state.hints.close()
            if state.redis is not None:
                await state.redis.close()
            await state.database.close()

    return lifespan


def _add_routes(app: FastAPI, settings: ApiSettings) -> None:
    for router in (*BUSY_ROUTERS, _ROUTES):
        mount_bound(app, router)
    mount_sockets(app)
    app.router.routes.append(asyncapi_route())
    app.router.routes.append(AdminDoor())
    if playground.is_served(settings):
        app.include_router(playground.router)


def _add_middleware(app: FastAPI, settings: ApiSettings, registry: CollectorRegistry) -> None:
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Idempotent-Replayed", "Retry-After", *RATE_LIMIT_HEADERS],
        )
    app.add_middleware(
        RequestMiddleware,
        max_body_bytes=settings.max_body_bytes,
        metrics=HttpMetrics(registry),
        shape=_ERRORS,
        large_bodies=[
            LargeBody("POST", re.compile(re.escape(API_PREFIX) + UPLOAD_PATH), settings.max_upload_bytes),
            LargeBody("POST", re.compile(re.escape(COMPLETION_PATH)), COMPLETION_BYTES),
            LargeBody("POST", re.compile(re.escape(EMBEDDING_PATH)), EMBEDDING_BYTES),
            LargeBody(
                "POST", re.compile(re.escape(API_PREFIX) + IMPORT_PATH), settings.max_import_bytes + IMPORT_FORM_BYTES
            ),
            LargeBody(
                "POST", re.compile(re.escape(API_PREFIX) + ATTACHMENT_PATH), settings.max_attachment_bytes + FORM_BYTES
            ),
        ],
    )


def _document_what_routes_cannot_say(app: FastAPI) -> None:
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(
                add_rate_limits(add_password_grant(make(), token_url=f"{API_PREFIX}/auth/token"))
            )
            add_schema(app.openapi_schema, "DocumentGone", DocumentGone)
            add_schema(app.openapi_schema, "MessageDelta", MessageDelta)
            add_schema(app.openapi_schema, "MessageCitations", MessageCitations)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def run(settings: ApiSettings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    configure_logging(settings.log_level, service="chat_api")
    app = create_app(settings)

    def on_stop() -> None:
        runs: RunEngine | None = getattr(app.state, "runs", None)
        if runs is not None:
            runs.begin_drain()
            app.state.document_watch.stop_following()
            app.state.gateway.stop()

    came_up = serve(
        app,
        host=settings.api_host,
        port=settings.api_port,
        shutdown_seconds=settings.shutdown_seconds,
        on_stop=on_stop,
    )
    return 0 if came_up else 1
