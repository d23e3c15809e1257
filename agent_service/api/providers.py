"""`GET /v1/providers`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import State
from shared.contracts.chat import Provider
from shared.web.responses import problems

router = APIRouter(prefix="/v1", tags=["models"])

_EXAMPLE: dict[str, Any] = {
    "default": "local",
    "items": [
        {"provider": "google_genai", "configured": False, "default_model": "gemini-2.0-flash"},
        {"provider": "openai", "configured": False, "default_model": "gpt-4o-mini"},
        {"provider": "local", "configured": True, "default_model": "smollm2-135m-instruct"},
    ],
    "embedding": {"model": "local:all-MiniLM-L6-v2", "dimensions": 384, "max_tokens": 254},
}


class ProviderState(BaseModel):
    """`configured` says that there is a key, or weights; not that the provider answers."""

    provider: Provider
    configured: bool
    default_model: str


class EmbeddingModelState(BaseModel):
    """The model that texts are embedded by. `max_tokens` of a text are read at most."""

    model: str = Field(description="`<provider>:<model>`.")
    dimensions: int
    max_tokens: int


class ProviderList(BaseModel):
    """`default` answers where a request names no provider. `embedding` is configured apart from it."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    default: Provider
    items: list[ProviderState]
    embedding: EmbeddingModelState


@router.get(
    "/providers",
    operation_id="list_providers",
    summary="List the model providers",
    responses=problems(*AUTH_PROBLEMS),
)
async def list_providers(state: State, caller: AuthenticatedCaller) -> ProviderList:
    """Every provider, whether this installation can use it, and its model where a request names none."""
    items = [
        ProviderState(
            provider=provider,
            configured=provider in state.configured,
            default_model=state.defaults.models[provider],
        )
        for provider in Provider
    ]
    embedder = state.embedder
    embedding = EmbeddingModelState(model=embedder.name, dimensions=embedder.dimensions, max_tokens=embedder.max_tokens)
    return ProviderList(default=state.defaults.provider, items=items, embedding=embedding)
