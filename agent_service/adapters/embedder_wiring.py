"""Chooses the embedder and the reranker that the settings ask for."""

from __future__ import annotations

from typing import Protocol, assert_never

import httpx

from agent_service.adapters.gemini_embedder import GeminiEmbedder
from agent_service.adapters.http_reranker import HttpReranker
from agent_service.adapters.local_embedder import LocalEmbedder
from agent_service.adapters.openai_embedder import OpenAIEmbedder
from agent_service.config import AgentSettings
from agent_service.domain.embedding_problems import EmbedderRejected
from agent_service.ports.embedder import Embedder
from shared.contracts.chat import Provider

_SILENCE_SECONDS = 60.0


class OwnEmbedder(Embedder, Protocol):
    """An embedder with what it holds: connections, threads, a loaded model."""

    async def probe(self) -> None:
        """Raises unless it can be used, as far as that shows without a call to a provider."""
        ...

    async def aclose(self) -> None: ...


def assemble_embedder(settings: AgentSettings) -> OwnEmbedder:
    model = settings.configured_embedding_model
    match model.provider:
        case Provider.LOCAL:
            return LocalEmbedder()
        case Provider.OPENAI:
            key = settings.openai_api_key
            base_url = settings.openai_base_url.rstrip("/")
            return OpenAIEmbedder(
                _client(settings, base_url),
                model,
                base_url=base_url,
                api_key=key.get_secret_value() if key is not None else None,
            )
        case Provider.GOOGLE_GENAI:
            if settings.google_api_key is None:
                raise EmbedderRejected  # the settings refuse that before
            return GeminiEmbedder(
                model,
                api_key=settings.google_api_key.get_secret_value(),
                base_url=settings.google_gemini_base_url,
            )
        case _:
            assert_never(model.provider)


def assemble_reranker(settings: AgentSettings) -> HttpReranker | None:
    """None where none is configured."""
    if settings.rerank_url is None:
        return None
    key = settings.rerank_api_key
    return HttpReranker(
        _client(settings, settings.rerank_url),
        url=settings.rerank_url,
        model=settings.rerank_model,
        api_key=key.get_secret_value() if key is not None else None,
        seconds=settings.rerank_seconds,
    )


def _client(settings: AgentSettings, url: str) -> httpx.AsyncClient:
    # Without TLS there is nothing to verify, and reading the root certificates would slow the start.
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=settings.model_connect_seconds)
    return httpx.AsyncClient(timeout=timeout, verify=url.startswith("https:"))
