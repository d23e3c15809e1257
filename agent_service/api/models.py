"""`GET /v1/models`, as OpenAI's clients list them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import AgentState, State
from shared.contracts.chat import Provider
from shared.openai.errors import InvalidParameter, OpenAIRoute, UnknownModel, openai_errors
from shared.openai.models import OpenAIModel, OpenAIModelList

router = APIRouter(prefix="/v1", tags=["openai-compatible"], route_class=OpenAIRoute)

_NO_DATE = 0
"""`created` is required by clients, and no provider tells it for a default."""


@router.get(
    "/models",
    operation_id="list_models",
    summary="List the models",
    response_model_exclude_none=True,
    responses=openai_errors(*AUTH_PROBLEMS),
)
async def list_models(state: State, caller: AuthenticatedCaller) -> OpenAIModelList:
    """The default model of each configured provider, and the embedding model, as `<provider>:<name>`."""
    return OpenAIModelList(object="list", data=_models(state))


@router.get(
    "/models/{model_id:path}",
    operation_id="get_model",
    summary="Read a model",
    response_model_exclude_none=True,
    responses=openai_errors(InvalidParameter, UnknownModel, *AUTH_PROBLEMS),
)
async def get_model(
    model_id: Annotated[str, Path(description="Its id in the list, or a provider for its default model.")],
    state: State,
    caller: AuthenticatedCaller,
) -> OpenAIModel:
    """One model of the list. Providers have others, which a completion may name."""
    for model in _models(state):
        # The default model stands before the embedding model of the same provider.
        if model_id in (model.id, model.owned_by):
            return model
    raise UnknownModel("There is no such model. `GET /v1/models` lists them.")


def _models(state: AgentState) -> list[OpenAIModel]:
    names = [f"{kind.value}:{state.defaults.models[kind]}" for kind in Provider if kind in state.configured]
    names.append(state.embedder.name)
    return [OpenAIModel(id=name, object="model", created=_NO_DATE, owned_by=name.partition(":")[0]) for name in names]
