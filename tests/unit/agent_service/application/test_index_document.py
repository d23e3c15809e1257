"""Putting a document, over an index in memory. The real one is tested over PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest

from agent_service.application.embedding_model import EmbeddingModelGuard
from agent_service.application.index_document import SLICE, DocumentIndexer
from agent_service.domain.chunking import CountTokens
from agent_service.domain.collection_names import stored_id
from agent_service.domain.index_problems import CollectionDeleted, EmbeddingModelChanged, StaleVersion
from agent_service.domain.passage import NewChunk
from agent_service.ports.index import ModelReplaced
from shared.contracts.knowledge import Block, DocumentPut, IndexedDocument, IndexEvent, IndexFailed, IndexProgress
from tests.fakes.embedder import HashingEmbedder
from tests.fakes.index import MemoryIndex, OneModel

COLLECTION, DOCUMENT = uuid4(), uuid4()


def one_each(blocks: Sequence[Block], count_tokens: CountTokens, max_tokens: int) -> list[NewChunk]:
    assert max_tokens > sum(count_tokens([block.text for block in blocks[:1]]))
    return [NewChunk(block.text, block.heading, block.page, 0, len(block.text)) for block in blocks]


class Desk:
    """An indexer and all that it works with."""

    def __init__(self, model: OneModel | None = None, *, progress_seconds: float = 0.0) -> None:
        self.index = MemoryIndex()
        self.embedder = HashingEmbedder()
        self.model = model or OneModel()
        guard = EmbeddingModelGuard(self.model, self.embedder)  # type: ignore[arg-type]  # all that it asks for
        self.indexer = DocumentIndexer(
            self.index, self.embedder, guard, one_each, max_tokens=256, progress_seconds=progress_seconds
        )

    async def put(self, *texts: str, version: int = 1, owner_id: UUID | None = None) -> list[IndexEvent]:
        put = DocumentPut(name="a", version=version, blocks=[Block(text=text) for text in texts])
        return [event async for event in self.indexer.put(COLLECTION, DOCUMENT, put, owner_id=owner_id)]

    @property
    def stored(self) -> list[str]:
        documents = self.index.documents.get(COLLECTION, {})
        return [chunk.text for chunk in documents[DOCUMENT].chunks.values()] if DOCUMENT in documents else []


def many(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


async def test_progress_counts_the_passages_that_have_a_vector() -> None:
    desk = Desk()
    twice = many(SLICE + 10)
    events = await desk.put(*twice, *twice)
    assert [event.done for event in events if isinstance(event, IndexProgress)] == [0, 2 * SLICE, 2 * SLICE + 20]
    assert isinstance(events[-1], IndexedDocument)
    assert (events[-1].chunk_count, events[-1].embedded) == (2 * SLICE + 20, SLICE + 10)
    assert sorted(desk.embedder.embedded) == sorted(twice)


async def test_like_lengths_are_embedded_together() -> None:
    desk = Desk()
    await desk.put(*("x" * (number * 7919 % 997 + 1) for number in range(200)))
    lengths = [len(text) for text in desk.embedder.embedded]
    assert lengths == sorted(lengths, reverse=True)


async def test_progress_is_told_no_more_often_than_it_should_be() -> None:
    desk = Desk(progress_seconds=3600)
    events = await desk.put(*many(5 * SLICE))
    assert [event.done for event in events if isinstance(event, IndexProgress)] == [0, 5 * SLICE]


async def test_a_document_that_is_there_already_is_left_alone() -> None:
    desk = Desk()
    await desk.put("one", "two")
    before = dict(desk.index.documents[COLLECTION][DOCUMENT].chunks)
    (event,) = await desk.put("one", "two")
    assert isinstance(event, IndexedDocument)
    assert event.embedded == 0
    assert desk.index.documents[COLLECTION][DOCUMENT].chunks == before


async def test_vectors_that_went_away_are_made_again() -> None:
    desk = Desk()
    desk.index.before_publish = _once(desk.index.vectors.clear)
    events = await desk.put("one", "two")
    assert isinstance(events[-1], IndexedDocument)
    assert events[-1].embedded == 4
    assert desk.stored == ["one", "two"]


async def test_an_index_that_is_given_away_meanwhile_is_not_published_to() -> None:
    desk = Desk()

    def give_away() -> None:
        desk.model.state = OneModel("local:other:384").state
        raise ModelReplaced

    desk.index.before_publish = give_away
    events = await desk.put("one")
    assert isinstance(events[-1], IndexFailed)
    assert events[-1].problem.code == EmbeddingModelChanged.code
    assert desk.stored == []


async def test_who_never_gets_round_to_publishing_gives_up() -> None:
    desk = Desk()
    desk.index.before_publish = desk.index.vectors.clear
    events = await desk.put("one")
    assert isinstance(events[-1], IndexFailed)
    assert (events[-1].problem.status, events[-1].retry_after) == (503, 1)


async def test_a_failure_is_the_last_event() -> None:
    desk = Desk()
    desk.embedder.fails_after = SLICE
    events = await desk.put(*many(3 * SLICE))
    assert isinstance(events[-1], IndexFailed)
    assert events[-1].problem.code == "embedder-unavailable"
    assert events[-1].retry_after is not None
    assert desk.stored == []


async def test_a_defect_is_told_as_one_without_its_text() -> None:
    desk = Desk()

    def break_down() -> None:
        raise RuntimeError("a secret")

    desk.index.before_publish = break_down
    events = await desk.put("one")
    assert isinstance(events[-1], IndexFailed)
    assert (events[-1].problem.status, events[-1].problem.code) == (500, "internal-error")
    assert "secret" not in events[-1].model_dump_json()


async def test_what_goes_wrong_after_publishing_does_not_undo_it() -> None:
    desk = Desk()

    def go_away_after() -> None:
        asyncio.get_running_loop().call_soon(setattr, desk.index, "is_away", True)

    desk.index.before_publish = go_away_after
    events = await desk.put("one")
    assert isinstance(events[-1], IndexedDocument)
    assert desk.stored == ["one"]


async def test_closing_the_events_stops_the_embedder() -> None:
    desk = Desk()
    put = DocumentPut(name="a", version=1, blocks=[Block(text=text) for text in many(5 * SLICE)])
    events = desk.indexer.put(COLLECTION, DOCUMENT, put, owner_id=None)
    while not desk.embedder.embedded:
        await anext(events)
    await events.aclose()
    assert len(desk.embedder.embedded) == SLICE
    assert desk.stored == []


async def test_what_would_be_refused_at_the_end_is_refused_at_once() -> None:
    desk = Desk()
    await desk.put("one", version=3)
    with pytest.raises(StaleVersion):
        await desk.indexer.admit(COLLECTION, DOCUMENT, 2, owner_id=None)
    await desk.index.delete_collection(COLLECTION, owner_id=None)
    with pytest.raises(CollectionDeleted):
        await desk.indexer.admit(COLLECTION, DOCUMENT, 4, owner_id=None)
    with pytest.raises(EmbeddingModelChanged):
        await Desk(OneModel("local:other:384")).indexer.admit(COLLECTION, DOCUMENT, 1, owner_id=None)


async def test_people_have_names_of_their_own() -> None:
    desk, ann, bob = Desk(), uuid4(), uuid4()
    await desk.put("of a service")
    await desk.put("of Ann", owner_id=ann)
    await desk.put("of Bob", owner_id=bob)
    assert set(desk.index.documents) == {COLLECTION, stored_id(COLLECTION, ann), stored_id(COLLECTION, bob)}
    assert desk.stored == ["of a service"]


def _once(act: Callable[[], None]) -> Callable[[], None]:
    left = [act]
    return lambda: left.pop()() if left else None
