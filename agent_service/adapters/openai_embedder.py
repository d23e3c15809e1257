"""Embedding models behind OpenAI's REST API, straight over httpx."""

from __future__ import annotations

import asyncio
import base64
import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson

from agent_service.adapters.remote_embedding import (
    PATIENCE,
    Patience,
    batches,
    cut,
    estimated_tokens,
    patiently,
    problem_for_status,
    unit_vectors,
)
from agent_service.domain.embedding_model import EmbeddingModel
from agent_service.domain.embedding_problems import (
    EmbedderProblem,
    EmbedderRejected,
    EmbedderTimeout,
    EmbedderUnavailable,
)
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings, Vector
from shared.logging import get_logger, request_id_var

log = get_logger("embedder.openai")

_BATCH_TEXTS = 256
_BATCH_CHARS = 200_000
_NO_MORE_CREDIT = "insufficient_quota"


class OpenAIEmbedder:
    """An `Embedder`: `POST {base_url}/embeddings`, a batch at a time. Counts tokens by an estimate."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        model: EmbeddingModel,
        *,
        base_url: str,
        api_key: str | None,
        patience: Mapping[EmbeddingPurpose, Patience] = PATIENCE,
    ) -> None:
        self.name = model.name
        self.dimensions = model.dimensions
        self.max_tokens = model.max_tokens
        self._client = client
        self._url = f"{base_url}/embeddings"
        self._api_key = api_key
        self._patience = patience
        self._options: dict[str, Any] = {"model": model.model, "encoding_format": "base64"}
        if model.shortened:
            self._options["dimensions"] = model.dimensions

    async def probe(self) -> None:
        """Nothing to see: keys are not tried against their providers."""

    async def aclose(self) -> None:
        await self._client.aclose()

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [estimated_tokens(text) for text in texts]

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        """These models embed queries and documents alike: the purpose says how long to wait."""
        vectors: list[Vector] = []
        tokens = 0
        read = [cut(text, self.max_tokens) for text in texts]
        for batch in batches(read, max_texts=_BATCH_TEXTS, max_chars=_BATCH_CHARS):
            body = orjson.dumps({**self._options, "input": batch})
            answer = await patiently(lambda body=body: self._post(body), self._patience[purpose])  # type: ignore[misc]  # binds the loop's body
            # Megabytes of vectors would hold the event loop.
            embedded, used = await asyncio.to_thread(_read, answer, len(batch), self.dimensions)
            vectors += embedded
            tokens += used
        return Embeddings(vectors, tokens)

    async def _post(self, body: bytes) -> bytes:
        try:
            response = await self._client.post(self._url, content=body, headers=self._headers())
        except httpx.TransportError as error:
            log.info("embedder.unreachable", error=type(error).__name__)
            if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
                raise EmbedderTimeout from None
            raise EmbedderUnavailable from None
        if response.status_code != 200:
            raise _refusal(response)
        return response.content

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if (request_id := request_id_var.get()) is not None:
            headers["X-Request-ID"] = request_id
        return headers


def _read(answer: bytes, count: int, dimensions: int) -> tuple[list[Vector], int]:
    """The vectors in the order of the texts, and the tokens read for them."""
    try:
        body = orjson.loads(answer)
        items = sorted(body["data"], key=lambda item: int(item["index"]))
        if [item["index"] for item in items] != list(range(count)):
            raise EmbedderUnavailable("The embedding model's server left texts out.")
        values = [_values(item["embedding"]) for item in items]
        tokens = int((body.get("usage") or {}).get("prompt_tokens") or 0)
    except (ValueError, TypeError, LookupError, AttributeError, binascii.Error):
        raise EmbedderUnavailable("The embedding model's server sends something that is no list of vectors.") from None
    return unit_vectors(values, dimensions), tokens


def _values(embedding: object) -> Sequence[float]:
    """Base64 as asked for; compatible servers often send a list all the same."""
    if isinstance(embedding, list):
        return array("f", embedding)
    if not isinstance(embedding, str):
        raise TypeError
    values = array("f", base64.b64decode(embedding, validate=True))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _refusal(response: httpx.Response) -> EmbedderProblem:
    try:
        error = orjson.loads(response.content)["error"]
        code, kind = str(error.get("code") or "")[:80], str(error.get("type") or "")[:80]
    except (ValueError, TypeError, LookupError, AttributeError):
        code = kind = ""
    log.warning("embedder.refused", status=response.status_code, code=code, type=kind)
    if _NO_MORE_CREDIT in (code, kind):
        return EmbedderRejected("The provider's account has no credit left.")
    return problem_for_status(response.status_code, _seconds(response.headers.get("Retry-After")))


def _seconds(header: str | None) -> float | None:
    """`Retry-After` as seconds; its other form, a date, is not used by model servers."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
