"""`POST /v1/embeddings/regenerate`: the index changes to the configured embedding model, a step at a time."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import State
from agent_service.domain.embedding_problems import EMBEDDER_PROBLEMS
from agent_service.domain.index_problems import EmbeddingModelChanged, IndexUnavailable
from shared.contracts.knowledge import RegenerationStep
from shared.problems import Forbidden
from shared.web.event_stream import CLIENT_CLOSED, while_connected
from shared.web.responses import problems

router = APIRouter(prefix="/v1/embeddings", tags=["collections"])

_EXAMPLE = {"done": 640, "total": 5183, "embedding_model": "openai:text-embedding-3-small:1536"}


@router.post(
    "/regenerate",
    operation_id="regenerate_embeddings",
    summary="Change the index to the configured embedding model",
    response_model=RegenerationStep,
    responses={
        **problems(*AUTH_PROBLEMS, *EMBEDDER_PROBLEMS, EmbeddingModelChanged, IndexUnavailable),
        200: {"content": {"application/json": {"example": _EXAMPLE}}},
    },
)
async def regenerate_embeddings(
    request: Request, state: State, caller: AuthenticatedCaller
) -> RegenerationStep | Response:
    """Embeds passages again for some seconds, those of the configured model left out. For services alone.

    Call it until `done` equals `total`. From the first call on, searches by text alone are answered until then. It
    may be stopped at any time and called again, also by several at once.
    """
    if caller.user_id is not None:
        raise Forbidden("The index is everybody's: only a service may change its embedding model.")
    try:
        return await while_connected(state.regeneration.step(), request.receive)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED)
