"""`POST /v1/embeddings`: OpenAI's route over the embedding model that is configured."""

from __future__ import annotations

import base64
import sys
from typing import Any, assert_never

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import State
from agent_service.domain.embedding_problems import EMBEDDER_PROBLEMS
from agent_service.ports.embedder import Embedder, Embeddings, Vector
from shared.openai.embeddings import EmbeddingAnswer, EmbeddingRequest, EncodingFormat
from shared.openai.errors import InvalidParameter, OpenAIRoute, UnknownModel, openai_errors
from shared.web.event_stream import CLIENT_CLOSED, while_connected

router = APIRouter(prefix="/v1", tags=["openai-compatible"], route_class=OpenAIRoute)


@router.post(
    "/embeddings",
    operation_id="create_embeddings",
    summary="Turn texts into vectors",
    response_model=EmbeddingAnswer,
    responses=openai_errors(InvalidParameter, UnknownModel, *AUTH_PROBLEMS, *EMBEDDER_PROBLEMS),
)
async def create_embeddings(
    request: Request, wanted: EmbeddingRequest, state: State, caller: AuthenticatedCaller
) -> Response:
    """One unit vector per text, in the order of the texts, by the model that the index is made with."""
    embedder = state.embedder
    _check(wanted, embedder)
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    try:
        embeddings = await while_connected(embedder.embed(texts), request.receive)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED)
    return Response(
        _encoded(embeddings, embedder.name, wanted.encoding_format or EncodingFormat.FLOAT),
        media_type="application/json",
    )


def _check(wanted: EmbeddingRequest, embedder: Embedder) -> None:
    if wanted.model not in (embedder.name, *embedder.name.split(":", 1)):
        raise UnknownModel(
            f"The embedding model is `{embedder.name}`: {embedder.dimensions} dimensions, {embedder.max_tokens} tokens "
            "of a text at most."
        )
    if wanted.dimensions not in (None, embedder.dimensions):
        raise InvalidParameter(f"The embedding model is configured for {embedder.dimensions} dimensions.", "dimensions")


def _encoded(embeddings: Embeddings, model: str, encoding: EncodingFormat) -> bytes:
    """The answer, built once: as models, two thousand vectors would be built and checked float by float."""
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(vector, encoding)}
            for index, vector in enumerate(embeddings.vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens},
    }
    return orjson.dumps(body)


def _vector(vector: Vector, encoding: EncodingFormat) -> list[float] | str:
    match encoding:
        case EncodingFormat.FLOAT:
            return vector.tolist()
        case EncodingFormat.BASE64:
            return base64.b64encode(_little_endian(vector).tobytes()).decode()
        case _:
            assert_never(encoding)


def _little_endian(vector: Vector) -> Vector:
    if sys.byteorder == "little":
        return vector
    turned = vector[:]
    turned.byteswap()
    return turned
