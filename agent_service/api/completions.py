"""`POST /v1/chat/completions`: OpenAI's words for a turn."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import AgentState, State
from agent_service.domain.problems import (
    AgentRestarting,
    ContextTooLong,
    ModelNotConfigured,
    ModelNotFound,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from shared.contracts.chat import ChatUser, ModelChoice
from shared.openai.answers import EXAMPLE_ANSWER, EXAMPLE_STREAM, CompletionAnswer
from shared.openai.completion import Completion
from shared.openai.conversion import chat_request
from shared.openai.errors import InvalidParameter, OpenAIRoute, TurnAlreadyBegun, UnknownModel, openai_errors
from shared.openai.models import chosen_model
from shared.openai.requests import CompletionRequest
from shared.openai.response import CompletionResponse
from shared.web.event_stream import EVENT_STREAM

router = APIRouter(prefix="/v1", tags=["openai-compatible"], route_class=OpenAIRoute)

PATH = "/v1/chat/completions"

_OK: dict[int | str, dict[str, Any]] = {
    200: {
        "model": CompletionAnswer,
        "description": "The answer; with `stream`, its chunks, then `[DONE]`.",
        "content": {
            "application/json": {"example": EXAMPLE_ANSWER},
            EVENT_STREAM: {"schema": {"type": "string"}, "example": EXAMPLE_STREAM},
        },
    }
}


@router.post(
    "/chat/completions",
    operation_id="create_chat_completion",
    summary="Answer a conversation, in OpenAI's words",
    responses={
        **_OK,
        **openai_errors(
            InvalidParameter,
            *AUTH_PROBLEMS,
            UnknownModel,
            TurnAlreadyBegun,
            ModelNotConfigured,
            ModelNotFound,
            ContextTooLong,
            ModelRateLimited,
            ModelRejected,
            ModelUnavailable,
            AgentRestarting,
            ModelTimeout,
        ),
    },
)
async def create_chat_completion(
    request: Request, wanted: CompletionRequest, state: State, caller: AuthenticatedCaller
) -> Response:
    """What `POST /v1/chat` does, for the clients that others have: `tools` are your own functions.

    A call of one ends the turn with `finish_reason` `tool_calls`; go on with the calls and a message of role `tool`
    for each. Once a turn was handed to a model, every error has `x-should-retry: false`, and OpenAI's clients do not
    try again; a retry that they make by themselves after a time-out is refused. Closing the connection stops the
    model. Unknown fields are ignored.
    """
    run_id = uuid.uuid4()
    user = None if caller.user_id is None else ChatUser(id=caller.user_id)
    turn = chat_request(wanted, run_id=run_id, model=_model(wanted.model, state), user=user)
    state.begun.begin(caller.name, await request.body(), request.headers)
    return CompletionResponse(
        state.turns.run(turn, owner_id=caller.user_id),
        Completion(wanted, run_id=run_id, created=int(time.time())),
        stream=bool(wanted.stream),
        heartbeat_seconds=state.heartbeat_seconds,
    )


def _model(name: str, state: AgentState) -> ModelChoice:
    """Raises `UnknownModel`, also where the provider is not configured: to this caller it does not exist."""
    choice = chosen_model(name)
    if choice.provider not in state.configured:
        raise UnknownModel(f"The model `{name}` does not exist here. `GET /v1/models` lists models of each provider.")
    return choice
