"""Gemini's embedding models, through LangChain's integration, which is imported when the first text comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import httpx

from agent_service.adapters.gemini_chat import asked_to_wait
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
from agent_service.domain.embedding_problems import EmbedderProblem, EmbedderTimeout, EmbedderUnavailable
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings, Vector
from shared.logging import get_logger

if TYPE_CHECKING:
    from langchain_google_genai import GoogleGenerativeAIEmbeddings

log = get_logger("embedder.google_genai")

_BATCH_TEXTS = 100  # Gemini's limit
# LangChain cuts its own batches by an estimate that comes to two tokens for a character at worst.
_BATCH_CHARS = 10_000
_TASKS = {
    EmbeddingPurpose.DOCUMENT: "RETRIEVAL_DOCUMENT",
    EmbeddingPurpose.QUERY: "RETRIEVAL_QUERY",
}


class GeminiEmbedder:
    """An `Embedder`. Counts tokens by an estimate; vectors that Gemini shortens are made unit length again."""

    def __init__(
        self,
        model: EmbeddingModel,
        *,
        api_key: str,
        base_url: str | None,
        patience: Mapping[EmbeddingPurpose, Patience] = PATIENCE,
    ) -> None:
        self.name = model.name
        self.dimensions = model.dimensions
        self.max_tokens = model.max_tokens
        self._model = model
        self._api_key = api_key
        self._base_url = base_url
        self._patience = patience
        self._client: GoogleGenerativeAIEmbeddings | None = None
        self._opening = asyncio.Lock()

    async def probe(self) -> None:
        """Nothing to see: keys are not tried against their providers."""

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.client.aio.aclose()

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [estimated_tokens(text) for text in texts]

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        """Tokens are the estimate: Gemini does not tell what it read."""
        client = await self._opened()
        read = [cut(text, self.max_tokens) for text in texts]
        vectors: list[Vector] = []
        for batch in batches(read, max_texts=_BATCH_TEXTS, max_chars=_BATCH_CHARS):
            values = await patiently(
                lambda batch=batch: _embed(client, batch, purpose, self.dimensions),  # type: ignore[misc]  # binds the loop's batch
                self._patience[purpose],
            )
            if len(values) != len(batch):
                raise EmbedderUnavailable("The embedding model's server left texts out.")
            # A hundred vectors of 3072 would hold the event loop.
            vectors += await asyncio.to_thread(unit_vectors, values, self.dimensions)
        return Embeddings(vectors, sum(map(estimated_tokens, read)))

    async def _opened(self) -> GoogleGenerativeAIEmbeddings:
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(self._open)
            return self._client

    def _open(self) -> GoogleGenerativeAIEmbeddings:
        from langchain_google_genai import GoogleGenerativeAIEmbeddings  # noqa: PLC0415 - two seconds, see above

        return GoogleGenerativeAIEmbeddings(
            model=self._model.model,
            api_key=self._api_key,
            base_url=self._base_url,
            vertexai=False,
        )


async def _embed(
    client: GoogleGenerativeAIEmbeddings, batch: list[str], purpose: EmbeddingPurpose, dimensions: int
) -> list[list[float]]:
    from langchain_google_genai._common import GoogleGenerativeAIError  # noqa: PLC0415 - loaded with the client

    try:
        return await client.aembed_documents(
            batch, batch_size=_BATCH_TEXTS, task_type=_TASKS[purpose], output_dimensionality=dimensions
        )
    except GoogleGenerativeAIError as error:
        raise _problem(error.__cause__) from None


def _problem(cause: BaseException | None) -> EmbedderProblem:
    from google.genai.errors import APIError  # noqa: PLC0415 - loaded with the client

    if isinstance(cause, APIError):
        log.warning("embedder.refused", status=cause.code, code=cause.status)
        return problem_for_status(cause.code, asked_to_wait(cause.details))
    log.info("embedder.unreachable", error=type(cause).__name__)
    if isinstance(cause, httpx.TimeoutException) and not isinstance(cause, httpx.ConnectTimeout):
        return EmbedderTimeout()
    return EmbedderUnavailable()
