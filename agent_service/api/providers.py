"""`GET /v1/providers`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

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
}


class ProviderState(BaseModel):
    """`configured` says that there is a key, or weights; not that the provider answers."""

    provider: Provider
    configured: bool
    default_model: str


class ProviderList(BaseModel):
    """`default` answers where a request names no provider."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    default: Provider
    items: list[ProviderState]


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
    return ProviderList(default=state.defaults.provider, items=items)
