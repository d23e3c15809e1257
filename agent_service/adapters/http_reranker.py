"""Rerankers behind the `POST /rerank` that Cohere began and Jina, vLLM, llama.cpp and others speak."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import httpx
import orjson

from agent_service.ports.reranker import RerankFailed
from shared.logging import get_logger, request_id_var

log = get_logger("reranker")


class HttpReranker:
    """A `Reranker`. `seconds` is the most that a search is held up."""

    def __init__(
        self, client: httpx.AsyncClient, *, url: str, model: str | None, api_key: str | None, seconds: float
    ) -> None:
        self._client = client
        self._url = url
        self._model = model
        self._api_key = api_key
        self._seconds = seconds

    async def aclose(self) -> None:
        await self._client.aclose()

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        body = {"query": query, "documents": list(texts), "top_n": len(texts), "return_documents": False}
        if self._model is not None:
            body["model"] = self._model
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._client.post(self._url, content=orjson.dumps(body), headers=self._headers())
        except (TimeoutError, httpx.TransportError) as error:
            log.warning("rerank.unreachable", error=type(error).__name__)
            raise RerankFailed from None
        if response.status_code != 200:
            log.warning("rerank.refused", status=response.status_code)
            raise RerankFailed
        try:
            return _scores(response.content, len(texts))
        except (ValueError, TypeError, LookupError):
            log.warning("rerank.unreadable", bytes=len(response.content))
            raise RerankFailed from None

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if (request_id := request_id_var.get()) is not None:
            headers["X-Request-ID"] = request_id
        return headers


def _scores(answer: bytes, count: int) -> list[float]:
    """In the order of the texts. A text that was left out is the least relevant."""
    scores: dict[int, float] = {}
    for result in orjson.loads(answer)["results"]:
        index, score = result["index"], float(result["relevance_score"])
        if not (isinstance(index, int) and 0 <= index < count and index not in scores and math.isfinite(score)):
            raise ValueError
        scores[index] = score
    if not scores:
        raise ValueError
    if any(not 0 <= score <= 1 for score in scores.values()):
        # What some servers send is the model's bare output, before the logistic function that makes it 0 to 1.
        scores = {index: _logistic(score) for index, score in scores.items()}
    return [scores.get(index, 0.0) for index in range(count)]


def _logistic(score: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, score)))
