"""Texts of messages to vectors, by the agent's embedding model."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import httpx
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from chat_api.clients.connection import AgentBrokeOff, AgentConnection
from chat_api.config import ApiSettings
from shared.openai.embeddings import EmbeddingRequest, EncodingFormat

_ASK_SECONDS = 5.0
_EMBED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TextVectors:
    """One unit vector per text. `model` names the model and its dimensions: only like can be compared with like."""

    model: str
    vectors: list[list[float]]


class TextEmbedder(Protocol):
    """What search needs of the agent's embedding model.

    Each call raises `AgentUnavailable`, `AgentBrokeOff` or `AgentRefused`. All may be repeated.
    """

    async def model(self) -> str:
        """`<provider>:<model>:<dimensions>`, as the agent is configured now."""
        ...

    async def embed(self, texts: Sequence[str]) -> TextVectors: ...


class _Embedding(BaseModel):
    model: str
    dimensions: int


class _Providers(BaseModel):
    embedding: _Embedding


class _Item(BaseModel):
    index: int
    embedding: str


class _Answer(BaseModel):
    model: str
    data: list[_Item]


class HttpTextEmbedder:
    """Speaks to the agent over HTTP."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._connection = AgentConnection(settings, transport=transport)

    async def close(self) -> None:
        await self._connection.close()

    async def model(self) -> str:
        configured = await self._configured()
        return f"{configured.model}:{configured.dimensions}"

    async def embed(self, texts: Sequence[str]) -> TextVectors:
        configured = await self._configured()
        wanted = EmbeddingRequest(model=configured.model, input=list(texts), encoding_format=EncodingFormat.BASE64)
        body = await self._connection.call(
            "POST", "/v1/embeddings", content=wanted.model_dump_json(exclude_none=True), seconds=_EMBED_SECONDS
        )
        try:
            answer = _Answer.model_validate_json(body)
            vectors = [_vector(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
        except (ValidationError, binascii.Error, ValueError):
            raise AgentBrokeOff("The agent service answered with something that is not in its contract.") from None
        if len(vectors) != len(texts) or any(len(vector) != len(vectors[0]) for vector in vectors):
            raise AgentBrokeOff("The agent service answered with other vectors than those asked for.")
        return TextVectors(f"{answer.model}:{len(vectors[0])}", vectors)

    async def _configured(self) -> _Embedding:
        body = await self._connection.call("GET", "/v1/providers", seconds=_ASK_SECONDS)
        try:
            return _Providers.model_validate_json(body).embedding
        except ValidationError:
            raise AgentBrokeOff("The agent service answered with something that is not in its contract.") from None


def _vector(encoded: str) -> list[float]:
    numbers = array("f")
    numbers.frombytes(base64.b64decode(encoded, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


async def get_text_embedder(request: Request) -> TextEmbedder:
    embedder: TextEmbedder = request.app.state.text_embedder
    return embedder


TheTextEmbedder = Annotated[TextEmbedder, Depends(get_text_embedder)]
