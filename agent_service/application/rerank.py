"""Searches with a second opinion: the best passages of a hybrid search are put in a reranker's order."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from uuid import UUID

from prometheus_client import CollectorRegistry

from agent_service.domain.passage import embedded_text
from agent_service.ports.passages import PassageSearch
from agent_service.ports.reranker import Reranker, RerankFailed
from shared.contracts.knowledge import Passage, SearchMode, SearchRequest
from shared.logging import get_logger
from shared.telemetry import counter, histogram

log = get_logger("search.rerank")

CANDIDATES = 50
"""Passages that the reranker reads: few enough for it to answer within a search."""

_REST_SECONDS = 5.0
"""How long a reranker that failed is left alone, so that not every search waits for it in vain."""


class RerankMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._searches = counter(
            registry, "agent_reranks", "Searches by what became of their reranking: done, failed, skipped", "outcome"
        )
        self._seconds = histogram(registry, "agent_rerank_duration_seconds", "How long the reranker took")

    def done(self, seconds: float) -> None:
        self._searches.labels("done").inc()
        self._seconds.observe(seconds)

    def failed(self) -> None:
        self._searches.labels("failed").inc()

    def skipped(self) -> None:
        self._searches.labels("skipped").inc()


class RerankedSearch:
    """A `PassageSearch` over another one. Where the reranker fails, its order and its scores stand."""

    def __init__(
        self,
        searches: PassageSearch,
        reranker: Reranker,
        metrics: RerankMetrics,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._searches = searches
        self._reranker = reranker
        self._metrics = metrics
        self._clock = clock
        self._rests_until = float("-inf")

    async def search(self, request: SearchRequest, *, owner_id: UUID | None) -> list[Passage]:
        """`min_score` is compared with the reranker's score, or with the fused one where there is none."""
        # A search for one thing alone is asked for by those who want to see that very thing.
        if request.mode is not SearchMode.HYBRID:
            return await self._searches.search(request, owner_id=owner_id)
        wider = request.model_copy(update={"top_k": max(CANDIDATES, request.top_k), "min_score": 0.0})
        passages = await self._searches.search(wider, owner_id=owner_id)
        passages = await self._reranked(request.query, passages)
        return [passage for passage in passages if passage.score >= request.min_score][: request.top_k]

    async def _reranked(self, query: str, passages: list[Passage]) -> list[Passage]:
        if not passages:
            return passages
        began = self._clock()
        if began < self._rests_until:
            self._metrics.skipped()
            return passages
        try:
            scores = await self._reranker.rerank(query, [embedded_text(each.heading, each.text) for each in passages])
        except RerankFailed:
            self._rests_until = self._clock() + _REST_SECONDS
            self._metrics.failed()
            log.warning("search.not_reranked", passages=len(passages))
            return passages
        self._metrics.done(self._clock() - began)
        # Stable: where the reranker sees no difference, the order that was found stands.
        ranked = sorted(zip(scores, passages, strict=True), key=lambda pair: -pair[0])
        return [passage.model_copy(update={"score": score}) for score, passage in ranked]
