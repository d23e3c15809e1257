"""A reranker has the last word on hybrid searches, and no power to make them fail."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from prometheus_client import CollectorRegistry

from agent_service.application.rerank import CANDIDATES, RerankedSearch, RerankMetrics
from agent_service.ports.reranker import RerankFailed
from shared.contracts.knowledge import Passage, SearchMode, SearchRequest


def passage(text: str, score: float, heading: str | None = None) -> Passage:
    return Passage(
        chunk_id=uuid4(),
        collection_id=uuid4(),
        document_id=uuid4(),
        document_name="a.md",
        position=0,
        text=text,
        heading=heading,
        page=None,
        start=0,
        end=len(text),
        score=score,
        dense_score=score,
        text_score=None,
    )


class Found:
    """A `PassageSearch` that finds the same passages always, within what is asked for."""

    def __init__(self, *passages: Passage) -> None:
        self.passages = list(passages)
        self.requests: list[SearchRequest] = []

    async def search(self, request: SearchRequest, *, owner_id: UUID | None) -> list[Passage]:
        self.requests.append(request)
        return [each for each in self.passages if each.score >= request.min_score][: request.top_k]


class Opinion:
    """A `Reranker` that thinks of texts as it is told, or fails where it is told nothing."""

    def __init__(self, scores: dict[str, float] | None) -> None:
        self.scores = scores
        self.calls = 0

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        self.calls += 1
        if self.scores is None:
            raise RerankFailed
        return [self.scores[text] for text in texts]


class Stage:
    def __init__(self, found: Found, opinion: Opinion) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.search = RerankedSearch(found, opinion, RerankMetrics(self.registry), clock=lambda: self.now)

    async def texts(self, **request: object) -> list[str]:
        wanted = SearchRequest.model_validate({"collections": [uuid4()], "query": "q", **request})
        return [each.text for each in await self.search.search(wanted, owner_id=None)]

    def outcomes(self) -> dict[str, float]:
        names = ("done", "failed", "skipped")
        values = {name: self.registry.get_sample_value("agent_reranks_total", {"outcome": name}) for name in names}
        return {name: value for name, value in values.items() if value is not None}


PASSAGES = (passage("first", 0.9), passage("second", 0.8, heading="Part"), passage("third", 0.7))
SCORES = {"first": 0.1, "Part\nsecond": 0.6, "third": 0.9}


async def test_the_reranker_orders_more_than_was_asked_for() -> None:
    found = Found(*PASSAGES)
    stage = Stage(found, Opinion(SCORES))
    assert await stage.texts(top_k=2, min_score=0.5) == ["third", "second"]
    assert (found.requests[0].top_k, found.requests[0].min_score) == (CANDIDATES, 0)
    assert await stage.texts(top_k=3, min_score=0.5) == ["third", "second"], "its own score is what is compared"
    assert stage.outcomes() == {"done": 2}


async def test_equal_scores_keep_the_order_that_was_found() -> None:
    stage = Stage(Found(*PASSAGES), Opinion(dict.fromkeys(SCORES, 0.5)))
    assert await stage.texts() == ["first", "second", "third"]


async def test_searches_for_one_thing_alone_are_left_as_they_are() -> None:
    opinion = Opinion(SCORES)
    stage = Stage(Found(*PASSAGES), opinion)
    for mode in (SearchMode.TEXT, SearchMode.DENSE):
        assert await stage.texts(mode=mode, top_k=2) == ["first", "second"]
    assert opinion.calls == 0


async def test_a_failure_leaves_the_order_and_the_scores_that_were_found() -> None:
    stage = Stage(Found(*PASSAGES), Opinion(None))
    assert await stage.texts(top_k=2, min_score=0.75) == ["first", "second"]
    assert stage.outcomes() == {"failed": 1}


async def test_a_reranker_that_failed_is_left_alone_for_a_while() -> None:
    opinion = Opinion(None)
    stage = Stage(Found(*PASSAGES), opinion)
    await stage.texts()
    opinion.scores = SCORES
    assert await stage.texts() == ["first", "second", "third"]
    assert opinion.calls == 1
    stage.now += 6
    assert await stage.texts() == ["third", "second", "first"]
    assert stage.outcomes() == {"done": 1, "failed": 1, "skipped": 1}


async def test_nothing_found_is_nothing_to_rank() -> None:
    opinion = Opinion(SCORES)
    assert await Stage(Found(), opinion).texts() == []
    assert opinion.calls == 0
