"""`GET /v1/models`, as OpenAI's clients list them."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.openai_shape import OpenAIRoute, openai_errors
from agent_service.api.state import State
from shared.contracts.chat import Provider

router = APIRouter(prefix="/v1", tags=["openai-compatible"], route_class=OpenAIRoute)

_NO_DATE = 0
"""`created` is required by clients, and no provider tells it for a default."""


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModelList(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "list",
                "data": [
                    {"id": "local:smollm2-135m-instruct", "object": "model", "created": 0, "owned_by": "local"},
                    {"id": "local:all-MiniLM-L6-v2", "object": "model", "created": 0, "owned_by": "local"},
                ],
            }
        }
    )

    object: Literal["list"]
    data: list[OpenAIModel]


@router.get(
    "/models",
    operation_id="list_models",
    summary="List the models",
    responses=openai_errors(*AUTH_PROBLEMS),
)
async def list_models(state: State, caller: AuthenticatedCaller) -> OpenAIModelList:
    """The default model of each configured provider, and the embedding model, as `<provider>:<name>`."""
    names = [f"{kind.value}:{state.defaults.models[kind]}" for kind in Provider if kind in state.configured]
    names.append(state.embedder.name)
    return OpenAIModelList(
        object="list",
        data=[
            OpenAIModel(id=name, object="model", created=_NO_DATE, owned_by=name.partition(":")[0]) for name in names
        ],
    )
