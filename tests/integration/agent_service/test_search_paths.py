"""Each way of searching a collection finds what comparing everything finds, whichever is the cheaper one."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_search import PgPassageIndex, SearchLimits
from agent_service.domain.bm25 import K1, B, inverse_frequency
from agent_service.ports.embedder import Vector
from agent_service.ports.index import Collection, QueryVector
from tests.factories.passages import copy_passages, open_owner
from tests.stores import Database

COLLECTION, SMALL = uuid4(), uuid4()
PASSAGES, SMALL_PASSAGES = 1500, 60
# No stop words, and nothing that the stemmer would change.
WORDS = [a + b + "x" for a in "bdfgklmnprtvz" for b in "aiou"]
EVERYTHING = SearchLimits(few=10**9, graph_visits=10**9)
NOTHING = SearchLimits(few=0, exact=0, candidates=500, graph_visits=1, graph_cost=0.0)
"""The ways of the large collections, in a small one."""


def made_up(seed: int, count: int) -> tuple[list[str], list[Vector]]:
    """Passages of words, some of which are in most of them, and vectors that lie in heaps."""
    dice = random.Random(seed)
    heaps = [[dice.gauss(0, 1) for _ in range(384)] for _ in range(40)]
    texts = [" ".join(dice.choices(WORDS, [1 / rank for rank in range(1, 53)], k=dice.randint(8, 40)))
             for _ in range(count)]  # fmt: skip
    vectors = []
    for _ in range(count):
        mixed = [a + 0.5 * b + dice.gauss(0, 0.8) for a, b in zip(*dice.sample(heaps, 2), strict=True)]
        norm = math.hypot(*mixed)
        vectors.append(array("f", [value / norm for value in mixed]))
    return texts, vectors


class Filled:
    """One collection of many passages, and a small one beside it."""

    def __init__(self, pool: IndexPool, chunks: list[UUID], texts: list[str], vectors: list[Vector]) -> None:
        self.pool = pool
        self.chunks = chunks
        self.texts = texts
        self.vectors = vectors

    def index(self, limits: SearchLimits) -> PgPassageIndex:
        return PgPassageIndex(self.pool, limits)

    async def query(self, number: int) -> QueryVector:
        async with self.pool.connection() as connection:
            model_id = await connection.fetchval("SELECT model_id FROM agent.index_state")
        return QueryVector(model_id, self.vectors[number])

    async def by_text(self, limits: SearchLimits, query: str, *, limit: int, exclude: Sequence[UUID] = ()) -> Any:
        """What is known of the words, and the passages that have them."""
        index, collection = self.index(limits), await self.collection()
        words = await index.words(collection, query)
        return words, await index.by_text(collection, words, limit=limit, exclude=exclude)

    async def collection(self, collection_id: UUID = COLLECTION) -> Collection:
        (found,) = await self.index(EVERYTHING).collections([collection_id])
        return found


@dataclass(frozen=True)
class Stored:
    """What lies in a database that no test of this file changes: to store it takes two seconds."""

    agent_url: str
    chunks: list[UUID]
    texts: list[str]
    vectors: list[Vector]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored(new_database: Callable[..., Database]) -> Stored:
    database = new_database()
    texts, vectors = made_up(1, PASSAGES)
    async with open_owner(database.owner_url) as owner:
        chunks = await copy_passages(owner, COLLECTION, texts=texts, vectors=vectors)
        small = made_up(2, SMALL_PASSAGES)
        await copy_passages(owner, SMALL, texts=small[0], vectors=small[1])
    return Stored(database.agent_url, chunks, texts, vectors)


@pytest.fixture
async def filled(stored: Stored) -> AsyncIterator[Filled]:
    pool = IndexPool(stored.agent_url, size=4)
    yield Filled(pool, stored.chunks, stored.texts, stored.vectors)
    await pool.aclose()


def bm25_of_all(query: str, texts: Sequence[str]) -> list[float]:
    counts = [Counter(text.split()) for text in texts]
    mean = sum(len(text.split()) for text in texts[:1000]) / min(1000, len(texts))
    scores = [0.0] * len(texts)
    for word in set(query.split()):
        idf = inverse_frequency(len(texts), sum(word in count for count in counts))
        for number, count in enumerate(counts):
            length = count.total()
            scores[number] += idf * count[word] * (K1 + 1) / (count[word] + K1 * (1 - B + B * length / mean))
    return scores


@pytest.mark.parametrize("limits", [EVERYTHING, SearchLimits(few=0)], ids=["all", "those with any word"])
async def test_text_scores_are_bm25_and_no_passage_is_missed(filled: Filled, limits: SearchLimits) -> None:
    query = f"{WORDS[3]} {WORDS[40]} {WORDS[51]} {WORDS[20]} unknownword"
    expected = bm25_of_all(query, filled.texts)
    words, found = await filled.by_text(limits, query, limit=100)
    scores = dict(zip(filled.chunks, expected, strict=True))
    best = sorted(scores.values(), reverse=True)[:100]
    assert [hit.text for hit in found] == pytest.approx(best, rel=1e-4)
    assert [scores[hit.chunk_id] for hit in found] == pytest.approx(best, rel=1e-4)
    assert {word for word, _ in words.known} == {WORDS[number] for number in (3, 20, 40, 51)}
    unknown = inverse_frequency(PASSAGES, 0)
    assert words.idf_mass == pytest.approx(sum(weight for _, weight in words.known) + unknown)


@pytest.mark.parametrize("words", [[0], [1, 2], [0, 30], [45, 50, 51], [5, 25, 45, 2]], ids=str)
async def test_a_few_candidates_hold_the_best_passages(filled: Filled, words: list[int]) -> None:
    """Rare words lead to them, and where there are none, the passages that have the common ones often."""
    query = " ".join(WORDS[number] for number in words)
    _, everything = await filled.by_text(EVERYTHING, query, limit=10)
    _, candidates = await filled.by_text(NOTHING, query, limit=10)
    assert len(candidates) == 10
    best = {hit.chunk_id for hit in everything}
    assert len(best & {hit.chunk_id for hit in candidates}) >= 7
    assert (candidates[0].text or 0) > 0.9 * (everything[0].text or 0)


async def test_the_graph_finds_the_nearest(filled: Filled) -> None:
    collection = await filled.collection()
    recall = 0.0
    for number in range(0, 400, 20):
        query = await filled.query(number)
        exact = await filled.index(EVERYTHING).by_vector(collection, query, limit=10)
        graph = await filled.index(NOTHING).by_vector(collection, query, limit=10)
        assert exact[0].chunk_id == filled.chunks[number]
        assert exact[0].dense == pytest.approx(1, abs=1e-3)
        assert [hit.dense for hit in graph] == sorted((hit.dense for hit in graph if hit.dense), reverse=True)
        recall += len({hit.chunk_id for hit in exact} & {hit.chunk_id for hit in graph}) / 200
    assert recall >= 0.97


async def test_a_small_collection_is_found_through_the_graph_of_a_large_one(filled: Filled) -> None:
    small = await filled.collection(SMALL)
    recall = 0.0
    for number in range(0, 200, 20):
        query = await filled.query(number)
        exact = await filled.index(EVERYTHING).by_vector(small, query, limit=10)
        graph = await filled.index(NOTHING).by_vector(small, query, limit=10)
        assert len(graph) == 10
        assert not {hit.chunk_id for hit in graph} & set(filled.chunks)
        recall += len({hit.chunk_id for hit in exact} & {hit.chunk_id for hit in graph}) / 100
    assert recall >= 0.97


@pytest.mark.parametrize("limits", [EVERYTHING, NOTHING], ids=["all", "chosen"])
async def test_what_is_excluded_is_not_found_and_leaves_room_for_others(filled: Filled, limits: SearchLimits) -> None:
    collection, index = await filled.collection(), filled.index(limits)
    query = await filled.query(0)
    stored = await index.passages({COLLECTION: filled.chunks})
    documents = {passage.id: passage.document_id for passage in stored}
    excluded = list(dict.fromkeys(documents.values()))[:12]
    by_vector = await index.by_vector(collection, query, limit=100, exclude=excluded)
    _, by_text = await filled.by_text(limits, WORDS[30], limit=20, exclude=excluded)
    assert len(by_vector) == 100
    assert by_text
    assert not {documents[hit.chunk_id] for hit in [*by_vector, *by_text]} & set(excluded)


@pytest.mark.parametrize("limits", [EVERYTHING, NOTHING], ids=["all", "graph"])
async def test_both_scores_are_those_that_the_other_part_would_have_given(filled: Filled, limits: SearchLimits) -> None:
    collection, index = await filled.collection(), filled.index(EVERYTHING)
    query = await filled.query(7)
    text = f"{WORDS[30]} {WORDS[4]}"
    words, found = await filled.by_text(EVERYTHING, text, limit=PASSAGES)
    bm25 = {hit.chunk_id: hit.text for hit in found}
    dense = {hit.chunk_id: hit.dense for hit in await index.by_vector(collection, query, limit=PASSAGES)}
    for hit in await filled.index(limits).by_vector(collection, query, words=words, limit=100):
        assert hit.dense == pytest.approx(dense[hit.chunk_id])
        assert hit.text == pytest.approx(bm25.get(hit.chunk_id, 0.0))
    likeness = await index.likeness(collection, query, filled.chunks[:50])
    assert likeness.cosines == {chunk: pytest.approx(dense[chunk]) for chunk in filled.chunks[:50]}


async def test_the_background_is_that_of_the_collection(filled: Filled) -> None:
    query = await filled.query(3)
    likeness = await filled.index(EVERYTHING).likeness(await filled.collection(), query, [])
    cosines = [sum(a * b for a, b in zip(query.vector, vector, strict=True)) for vector in filled.vectors]
    mean = sum(cosines) / len(cosines)
    deviation = math.sqrt(sum((cosine - mean) ** 2 for cosine in cosines) / len(cosines))
    assert likeness.cosines == {}
    assert likeness.mean == pytest.approx(mean, abs=0.25 * deviation)
    assert likeness.deviation == pytest.approx(deviation, rel=0.25)
