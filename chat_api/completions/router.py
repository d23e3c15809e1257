"""The OpenAI-compatible door: models, completions by models and bots, embeddings."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.requests import ClientDisconnect

from chat_api.auth.actors import Scope
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.errors import InsufficientScope, RateLimited
from chat_api.auth.permissions import AgentInvoker, Permission
from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from chat_api.completions.begun import StoredTurns
from chat_api.completions.door import CompletionDoor
from chat_api.completions.errors import KnowledgeChanged, ModelTimedOut, TooManyCompletions
from chat_api.completions.service import CompletionService
from chat_api.kit.db import is_store_down
from chat_api.kit.dependencies import Statements
from chat_api.plans.errors import QuotaExceeded
from chat_api.runs.errors import DocumentsBeingDeleted, TooManyMessages
from shared.contracts.chat import MAX_BASE64_CHARACTERS
from shared.openai.answers import EXAMPLE_ANSWER, EXAMPLE_STREAM, CompletionAnswer
from shared.openai.completion import Completion, NeedsApproval
from shared.openai.embeddings import EmbeddingAnswer, EmbeddingRequest
from shared.openai.errors import InvalidParameter, OpenAIRoute, TurnAlreadyBegun, UnknownModel, openai_errors
from shared.openai.models import OpenAIModel, OpenAIModelList
from shared.openai.requests import CompletionRequest
from shared.openai.response import CompletionResponse
from shared.problems import NotAuthenticated, Problem, ServiceUnavailable
from shared.web.event_stream import CLIENT_CLOSED, EVENT_STREAM, while_connected

COMPLETION_PATH = "/v1/chat/completions"
COMPLETION_BYTES = 4 * 1024 * 1024 + MAX_BASE64_CHARACTERS
"""A long conversation and the pictures of a turn: the caller sends all of it each time."""
EMBEDDING_PATH = "/v1/embeddings"
EMBEDDING_BYTES = 8 * 1024 * 1024


_MAY_INVOKE = Permission(Scope.AGENT_INVOKE)


class _Route(OpenAIRoute):
    async def admit(self, request: Request) -> None:
        # FastAPI reads a body before it asks who sends it, and bodies may be large here.
        try:
            await _MAY_INVOKE(request)
        except RateLimited as refusal:
            if refusal.user_id is not None and request.scope["path"] == COMPLETION_PATH:
                door: CompletionDoor = request.app.state.completions
                door.refused.add_unread(refusal.user_id, request.headers)
            raise

    @staticmethod
    def problem_behind(error: Exception) -> Problem | None:
        return ServiceUnavailable() if is_store_down(error) else None


router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], route_class=_Route)


async def get_completions(request: Request, database: Statements, clock: TheClock) -> CompletionService:
    state = request.app.state
    door: CompletionDoor = state.completions
    return CompletionService(
        database, clock, state.agent, state.agent_tools, door.models, door.places, state.runs.quotas
    )


async def get_begun(request: Request, database: Statements) -> StoredTurns:
    door: CompletionDoor = request.app.state.completions
    return StoredTurns(database, door.refused)


Completions = Annotated[CompletionService, Depends(get_completions)]
Begun = Annotated[StoredTurns, Depends(get_begun)]

_USUAL = (NotAuthenticated, InsufficientScope, RateLimited, AgentBrokeOff, AgentUnavailable, ServiceUnavailable)
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


@router.get(
    "/models", summary="List models and bots", response_model_exclude_none=True, responses=openai_errors(*_USUAL)
)
async def list_models(actor: AgentInvoker, completions: Completions) -> OpenAIModelList:
    """The models of the agent, as `<provider>:<name>`, and the bots that the caller may use, as `bot:<id>`."""
    return await completions.models(actor.user_id)


@router.get(
    "/models/{model_id:path}",
    summary="Read a model or a bot",
    response_model_exclude_none=True,
    responses=openai_errors(InvalidParameter, UnknownModel, *_USUAL),
)
async def get_model(
    model_id: Annotated[str, Path(description="Its id in the list, or a provider for its default model.")],
    actor: AgentInvoker,
    completions: Completions,
) -> OpenAIModel:
    """One of the list. Providers have other models, which a completion may name."""
    return await completions.model(actor.user_id, model_id)


@router.post(
    "/chat/completions",
    summary="Answer a conversation, in OpenAI's words",
    responses={
        **_OK,
        **openai_errors(
            InvalidParameter,
            UnknownModel,
            *_USUAL,
            NeedsApproval,
            TurnAlreadyBegun,
            KnowledgeChanged,
            TooManyMessages,
            QuotaExceeded,
            TooManyCompletions,
            DocumentsBeingDeleted,
            ModelTimedOut,
        ),
    },
)
async def create_chat_completion(
    request: Request,
    wanted: CompletionRequest,
    actor: AgentInvoker,
    completions: Completions,
    begun: Begun,
    settings: TheSettings,
) -> Response:
    """Have a model answer, or as `bot:<id>` a bot, from its documents: what it stands on comes as `annotations`.

    Nothing is stored: the conversation is what `messages` say, and instructions in it come after the bot's own. A
    bot's tools are offered as far as they need no approval. `tools` are your own functions: a call of one ends the
    turn with `finish_reason` `tool_calls`. Once a turn was handed to a model, every error has `x-should-retry: false`,
    and OpenAI's clients do not try again; a retry that they make by themselves after a time-out is refused. Closing
    the connection stops the model. Unknown fields are ignored.
    """
    run_id, body = uuid.uuid4(), await request.body()
    try:
        request.app.state.runs.sends.count(actor.user_id)
        turn = await completions.turn(actor, wanted, run_id=run_id)
    except Problem:
        begun.refused.add(actor.user_id, body, request.headers)
        raise
    key = await begun.begin(actor.user_id, body, request.headers)

    async def try_again(problem: Problem) -> bool:
        if not (isinstance(problem, TooManyCompletions) or _never_arrived(problem)):
            return False
        try:
            await begun.forget(actor.user_id, key)
        except Exception as error:
            if not is_store_down(error):
                raise
            return False
        return True

    return CompletionResponse(
        completions.events(actor.user_id, turn),
        Completion(wanted, run_id=run_id, created=int(time.time())),
        stream=bool(wanted.stream),
        heartbeat_seconds=settings.sse_keepalive_seconds,
        try_again=try_again,
    )


def _never_arrived(problem: Problem) -> bool:
    return isinstance(problem, AgentUnavailable) and not problem.arrived


@router.post(
    "/embeddings",
    summary="Turn texts into vectors",
    response_model=EmbeddingAnswer,
    responses=openai_errors(InvalidParameter, UnknownModel, *_USUAL, KnowledgeChanged, TooManyMessages, QuotaExceeded),
)
async def create_embeddings(
    request: Request, wanted: EmbeddingRequest, actor: AgentInvoker, completions: Completions
) -> Response:
    """One unit vector per text, in the order of the texts, by the model that documents are found with.

    Their tokens count for the day, as those of replies do.
    """
    request.app.state.runs.sends.count(actor.user_id)
    try:
        answer = await while_connected(completions.embed(actor.user_id, wanted), request.receive)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED)
    return Response(answer, media_type="application/json")
