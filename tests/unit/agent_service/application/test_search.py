"""Searching, over an index in memory. The real one is tested over PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from agent_service.application.embedding_model import EmbeddingModelGuard
from agent_service.application.search import Searches
from agent_service.domain.collection_names import stored_id
from agent_service.domain.embedding_problems import EmbedderUnavailable
from agent_service.domain.index_problems import CollectionNotFound, EmbeddingModelChanged, IndexUnavailable
from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings
from agent_service.ports.index import Collection, NewDocument, QueryWords
from shared.contracts.knowledge import Passage, SearchMode, SearchRequest
from tests.fakes.embedder import HashingEmbedder
from tests.fakes.index import MemoryIndex, OneModel

COLLECTION = uuid4()
TEXTS = ["the harbour closes at ten", "bicycles are for rent", "the harbour master rents bicycles", "nothing else"]


class Shelf:
    def __init__(self) -> None:
        self.index = MemoryIndex()
        self.embedder = HashingEmbedder()
        self.model = OneModel("local:hashing:384")
        self.searches = Searches(
            self.index,
            self.embedder,
            EmbeddingModelGuard(self.model, self.embedder),  # type: ignore[arg-type]  # all that it asks for
        )

    async def fill(
        self, *texts: str, collection: UUID = COLLECTION, document: UUID | None = None, version: int = 1
    ) -> UUID:
        chunks = [NewChunk(text, None, None, 0, len(text)) for text in texts]
        self.index.vectors.update({chunk.text_hash: self.embedder.vector(chunk.text) for chunk in chunks})
        document = uuid4()
        await self.index.publish(NewDocument(collection, document, 1, "a", chunks), 1)
        return document

    async def search(self, query: str, *, owner_id: UUID | None = None, **wanted: Any) -> list[Passage]:
        request = SearchRequest(collections=wanted.pop("collections", [COLLECTION]), query=query, **wanted)
        return await self.searches.search(request, owner_id=owner_id)


@pytest.fixture
async def shelf() -> Shelf:
    shelf = Shelf()
    await shelf.fill(*TEXTS)
    return shelf


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_the_best_passage_comes_first_with_a_score_between_0_and_1(shelf: Shelf, mode: SearchMode) -> None:
    found = await shelf.search("the harbour closes", mode=mode, top_k=3)
    assert found[0].text == TEXTS[0]
    assert 0 < found[0].score <= 1
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == (2 if mode is SearchMode.TEXT else 3)


async def test_hybrid_passages_have_both_scores(shelf: Shelf) -> None:
    found = await shelf.search("harbour", top_k=10)
    assert len(found) == 4
    assert all(passage.dense_score is not None and passage.text_score is not None for passage in found)
    (other,) = [passage for passage in found if passage.text == TEXTS[1]]
    assert other.text_score == 0


async def test_one_part_alone_has_its_own_score_only(shelf: Shelf) -> None:
    (text, *_) = await shelf.search("harbour", mode="text")
    (dense, *_) = await shelf.search("harbour", mode="dense")
    assert (text.dense_score, dense.text_score) == (None, None)
    assert text.text_score is not None
    assert dense.dense_score is not None


async def test_text_scores_say_how_much_of_the_query_is_there(shelf: Shelf) -> None:
    (best, *_) = await shelf.search("harbour closes ten", mode="text")
    (part, *_) = await shelf.search("harbour unheard-of words", mode="text")
    assert best.text == TEXTS[0]
    assert best.score == pytest.approx(0.6, abs=0.1), "all of its words, once each"
    assert part.score < 0.4


async def test_what_scores_too_low_is_left_out(shelf: Shelf) -> None:
    everything = await shelf.search("harbour", top_k=10)
    found = await shelf.search("harbour", top_k=10, min_score=everything[1].score)
    assert found == everything[:2]


async def test_words_alone_need_no_embedder(shelf: Shelf) -> None:
    shelf.model.state = OneModel("local:other:384").state
    assert (await shelf.search("harbour", mode="text"))[0].text in (TEXTS[0], TEXTS[2])
    for mode in ("dense", "hybrid"):
        with pytest.raises(EmbeddingModelChanged):
            await shelf.search("harbour", mode=mode)


async def test_words_are_looked_up_while_the_query_is_embedded(shelf: Shelf) -> None:
    looked_up = asyncio.Event()
    by_text, embed = shelf.index.by_text, shelf.embedder.embed

    class Waiting(HashingEmbedder):
        async def embed(self, texts: Any, purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
            assert purpose is EmbeddingPurpose.QUERY
            await asyncio.wait_for(looked_up.wait(), 30)
            return await embed(texts, purpose)

    class Telling(MemoryIndex):
        async def by_text(self, *args: Any, **options: Any) -> Any:
            looked_up.set()
            return await by_text(*args, **options)

    index = Telling()
    index.documents, index.vectors = shelf.index.documents, shelf.index.vectors
    guard = EmbeddingModelGuard(shelf.model, shelf.embedder)  # type: ignore[arg-type]
    request = SearchRequest(collections=[COLLECTION], query="harbour")
    assert await Searches(index, Waiting(), guard).search(request, owner_id=None)


async def test_an_embedder_that_fails_is_told(shelf: Shelf) -> None:
    class Failing(HashingEmbedder):
        async def embed(self, texts: Any, purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
            raise EmbedderUnavailable

    guard = EmbeddingModelGuard(shelf.model, shelf.embedder)  # type: ignore[arg-type]
    request = SearchRequest(collections=[COLLECTION], query="harbour")
    with pytest.raises(EmbedderUnavailable):
        await Searches(shelf.index, Failing(), guard).search(request, owner_id=None)


async def test_an_index_that_is_away_is_told(shelf: Shelf) -> None:
    shelf.index.is_away = True
    with pytest.raises(IndexUnavailable):
        await shelf.search("harbour")


async def test_an_index_without_vectors_finds_by_words(shelf: Shelf) -> None:
    shelf.model.state = None
    assert len(await shelf.search("harbour")) == 2
    assert await shelf.search("harbour", mode="dense") == []


async def test_nothing_is_embedded_for_nothing(shelf: Shelf) -> None:
    class Refusing(HashingEmbedder):
        async def embed(self, texts: Any, purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
            raise AssertionError("there is nothing to look through")

    guard = EmbeddingModelGuard(shelf.model, shelf.embedder)  # type: ignore[arg-type]
    searches = Searches(shelf.index, Refusing(), guard)
    assert await searches.search(SearchRequest(collections=[uuid4()], query="x"), owner_id=None) == []


async def test_a_document_that_is_replaced_meanwhile_is_searched_again(shelf: Shelf) -> None:
    document = await shelf.fill("old harbour", collection=(collection := uuid4()))

    def replace() -> None:
        shelf.index.before_passages = lambda: None
        stored = shelf.index.documents[collection][document]
        stored.chunks = {uuid4(): chunk for chunk in stored.chunks.values()}

    for mode in SearchMode:
        shelf.index.before_passages = replace
        found = await shelf.search("harbour", mode=mode, collections=[collection])
        assert [passage.text for passage in found] == ["old harbour"]


async def test_the_best_of_several_collections_are_merged(shelf: Shelf) -> None:
    other = uuid4()
    await shelf.fill("harbour harbour", "a harbour", collection=other)
    found = await shelf.search("harbour", mode="text", collections=[COLLECTION, other], top_k=10)
    assert {passage.collection_id for passage in found} == {COLLECTION, other}
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)


async def test_excluded_documents_are_not_found(shelf: Shelf) -> None:
    doomed = await shelf.fill("harbour of the doomed")
    for mode in SearchMode:
        found = await shelf.search("harbour", mode=mode, top_k=10, exclude_documents=[doomed])
        assert doomed not in {passage.document_id for passage in found}


async def test_a_person_sees_their_own_collections_only(shelf: Shelf) -> None:
    ann, bob = uuid4(), uuid4()
    await shelf.fill("harbour of Ann", collection=stored_id(COLLECTION, ann))
    (found,) = await shelf.search("harbour", owner_id=ann)
    assert (found.text, found.collection_id) == ("harbour of Ann", COLLECTION)
    with pytest.raises(CollectionNotFound):
        await shelf.search("harbour", owner_id=bob)
    with pytest.raises(CollectionNotFound):
        await shelf.search("harbour", owner_id=ann, collections=[COLLECTION, uuid4()])


async def test_by_text_the_best_are_told_apart_however_good_they_are(shelf: Shelf) -> None:
    others = [uuid4(), uuid4()]
    for collection, times in zip([COLLECTION, *others], (3, 9, 27), strict=True):
        await shelf.fill("anchor " * times, *TEXTS, collection=collection)
    found = await shelf.search("anchor", mode="text", collections=[COLLECTION, *others])
    assert [passage.text.count("anchor") for passage in found] == [27, 9, 3]
    assert 1 > found[0].score > found[1].score > found[2].score > 0.63


async def test_many_collections_are_searched_by_and_by(shelf: Shelf) -> None:
    """Else one search takes every connection, and all others wait for all of its collections."""
    collections = [uuid4() for _ in range(12)]
    for collection in collections:
        await shelf.fill(*TEXTS, collection=collection)
    words, running, most = shelf.index.words, 0, 0

    async def counted(collection: Collection, query: str) -> QueryWords:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await words(collection, query)

    shelf.index.words = counted  # type: ignore[method-assign]  # the same, and it counts
    found = await shelf.search("harbour closes", mode="text", collections=collections, top_k=100)
    assert len(found) == 2 * len(collections)
    assert 1 < most <= 4
