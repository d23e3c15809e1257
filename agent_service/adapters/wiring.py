"""Chooses the adapters that the settings ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry

from agent_service.adapters.chat_api_keys import ChatApiKeys
from agent_service.adapters.chat_api_messages import ChatApiMessages
from agent_service.adapters.embedder_wiring import assemble_embedder
from agent_service.adapters.gemini_chat import GeminiChat
from agent_service.adapters.index_wiring import IndexParts, assemble_index
from agent_service.adapters.local_chat import LocalChat
from agent_service.adapters.local_process import LOOPBACK, LocalModelProcess
from agent_service.adapters.mcp_wiring import mcp_sources
from agent_service.adapters.openai_chat import OpenAIChat, OpenAIEndpoint
from agent_service.adapters.tool_wiring import assemble_tools
from agent_service.application.check_key import RememberedKeys
from agent_service.application.ground_turn import TurnGrounder
from agent_service.application.metrics import ToolMetrics, TurnMetrics
from agent_service.application.run_tools import ToolRunner
from agent_service.application.run_turn import TurnRunner
from agent_service.application.settle_calls import TurnTools
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.config import AgentSettings
from agent_service.domain.problems import ModelNotConfigured
from agent_service.ports.chat_model import ChatModel
from agent_service.ports.embedder import Embedder
from agent_service.ports.key_introspection import KeyIntrospector
from shared.contracts.chat import Provider
from shared.security import ServiceName, ServiceToken, service_signer
from shared.stream_transport import StreamTransport, needs_proxy
from shared.telemetry import new_registry

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of. `start` and `aclose` bracket its life."""

    turns: TurnRunner
    models: Mapping[Provider, ChatModel]
    embedder: Embedder
    index: IndexParts
    keys: KeyIntrospector
    catalog: ToolCatalog
    tool_runner: ToolRunner
    required_probes: Mapping[str, Probe]
    optional_probes: Mapping[str, Probe]
    registry: CollectorRegistry
    start: Callable[[], Awaitable[None]]
    aclose: Callable[[], Awaitable[None]]


def assemble(settings: AgentSettings, embedder: Embedder | None = None) -> Parts:
    """`embedder` stands in for the one that the settings ask for."""
    registry = new_registry()
    local_process = LocalModelProcess(settings.local_model_path)
    models = _models(settings, local_process)
    own_embedder = assemble_embedder(settings)
    embedder = embedder or own_embedder
    index = assemble_index(settings, embedder, registry)
    turn_metrics = TurnMetrics(registry)
    chat_api = settings.chat_api_base_url
    introspection = _chat_api_client(chat_api, settings.introspection_seconds)
    message_search = _chat_api_client(chat_api, settings.message_search_seconds)
    service_token = ServiceToken(
        service_signer(settings.service_keys, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API),
        ServiceName.AGENT_SERVICE,
    )
    messages = ChatApiMessages(message_search, base_url=chat_api, service_token=service_token)
    catalog = ToolCatalog(assemble_tools(settings, index.searches, messages), mcp_sources(settings))
    tool_runner = ToolRunner(settings.tool_limits, ToolMetrics(registry))
    default_probe = _default_probe(settings, models, local_process)

    async def start() -> None:
        if settings.provider is Provider.LOCAL and Provider.LOCAL in models:
            local_process.keep_running()
        await catalog.start()

    async def aclose() -> None:
        await catalog.aclose()
        for model in models.values():
            await model.aclose()
        await introspection.aclose()
        await message_search.aclose()
        await own_embedder.aclose()
        await index.aclose()

    return Parts(
        turns=TurnRunner(
            models,
            defaults=settings.model_defaults,
            limits=settings.turn_limits,
            metrics=turn_metrics,
            tools=TurnTools(catalog, tool_runner),
            grounder=TurnGrounder(
                index.searches,
                passage_characters=settings.passage_characters,
                local_tokens=settings.local_prompt_tokens,
                metrics=turn_metrics,
            ),
        ),
        models=models,
        embedder=embedder,
        index=index,
        keys=RememberedKeys(ChatApiKeys(introspection, base_url=chat_api, service_token=service_token)),
        catalog=catalog,
        tool_runner=tool_runner,
        required_probes={"default_model": default_probe},
        optional_probes={"embedder": own_embedder.probe, "index": index.pool.probe},
        registry=registry,
        start=start,
        aclose=aclose,
    )


def _chat_api_client(base_url: str, seconds: float) -> httpx.AsyncClient:
    # Without TLS there is nothing to verify, and reading the root certificates would slow the start.
    return httpx.AsyncClient(timeout=seconds, trust_env=False, verify=base_url.startswith("https:"))


def _models(settings: AgentSettings, local_process: LocalModelProcess) -> dict[Provider, ChatModel]:
    """The providers that are configured. The others are absent, and a turn that names one fails as such."""
    models: dict[Provider, ChatModel] = {}
    if settings.google_api_key is not None:
        models[Provider.GOOGLE_GENAI] = GeminiChat(
            api_key=settings.google_api_key.get_secret_value(),
            base_url=settings.google_gemini_base_url,
        )
    read_interval = settings.delta_interval_ms / 1000 * 0.75  # ahead of the delta that will carry it
    if settings.has_openai:
        key = settings.openai_api_key
        endpoint = OpenAIEndpoint(
            settings.openai_base_url.rstrip("/"), key.get_secret_value() if key is not None else None
        )
        models[Provider.OPENAI] = OpenAIChat(
            _model_client(settings, endpoint.base_url), lambda: endpoint, read_interval=read_interval
        )
    if local_process.is_installed:
        models[Provider.LOCAL] = LocalChat(
            local_process,
            _model_client(settings, LOOPBACK),
            model=settings.local_model_name,
            max_tokens=settings.local_max_tokens,
            prompt_tokens=settings.local_prompt_tokens,
            read_interval=read_interval,
        )
    return models


def _model_client(settings: AgentSettings, base_url: str) -> httpx.AsyncClient:
    # Waiting for tokens is timed by the turn; httpx would set a timer for every read.
    timeout = httpx.Timeout(None, connect=settings.model_connect_seconds)
    if needs_proxy(httpx.URL(base_url)):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        return httpx.AsyncClient(timeout=timeout, limits=limits)
    transport = StreamTransport(connect_seconds=settings.model_connect_seconds)
    return httpx.AsyncClient(timeout=timeout, transport=transport)


def _default_probe(
    settings: AgentSettings, models: Mapping[Provider, ChatModel], local_process: LocalModelProcess
) -> Probe:
    async def probe() -> None:
        if settings.provider not in models:
            raise ModelNotConfigured
        if settings.provider is Provider.LOCAL:
            await local_process.probe()

    return probe
