"""Finds the passages that fit a question: by meaning, by words, or by both.

Words are looked up while the question is embedded. The texts of passages are read at the end, for those alone that are
answered with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypedDict, assert_never
from uuid import UUID

from agent_service.application.embedding_model import EmbeddingModelGuard
from agent_service.domain.collection_names import stored_id
from agent_service.domain.fusion import QueryScale, code_share, fuse, text_score
from agent_service.domain.index_problems import CollectionNotFound
from agent_service.ports.embedder import Embedder, EmbeddingPurpose
from agent_service.ports.index import Collection, Hit, Likeness, PassageIndex, QueryVector, QueryWords, StoredPassage
from shared.contracts.knowledge import Passage, SearchMode, SearchRequest

DEPTH = 100
"""Passages that each part of a search brings at least, before the two are fused."""

_AT_A_TIME = 3
"""Collections of one search that are searched side by side, so that many of them do not make all others wait."""


class _Found(NamedTuple):
    """A passage with its scores: `score` between 0 and 1 is that of the mode."""

    collection_id: UUID
    chunk_id: UUID
    score: float
    dense: float | None = None
    text: float | None = None


class Searches:
    """A `PassageSearch`."""

    def __init__(self, index: PassageIndex, embedder: Embedder, guard: EmbeddingModelGuard) -> None:
        self._index = index
        self._embedder = embedder
        self._guard = guard

    async def search(self, request: SearchRequest, *, owner_id: UUID | None) -> list[Passage]:
        names = {stored_id(name, owner_id): name for name in request.collections}
        async with _Question(request, self._embedder, self._guard) as question:
            known = await self._index.collections(list(names))
            if owner_id is not None and len(known) < len(names):
                raise CollectionNotFound
            collections = [collection for collection in known if collection.chunk_count]
            if not collections:
                return []
            found = await question.answer(self._index, collections)
            passages = await self._index.passages(_by_collection(found))
            if len(passages) < len(found):
                # A document was replaced in between. Then everything at one moment.
                async with self._index.at_one_moment() as index:
                    found = await question.answer(index, collections)
                    passages = await index.passages(_by_collection(found))
        stored = {passage.id: passage for passage in passages}
        return [_passage(stored[hit.chunk_id], hit, names[hit.collection_id]) for hit in found]


class _Question:
    """One search, in as many collections as it names. Its query is embedded once, from when it is entered."""

    def __init__(self, request: SearchRequest, embedder: Embedder, guard: EmbeddingModelGuard) -> None:
        self._request = request
        self._depth = max(DEPTH, request.top_k)
        self._embedder = embedder
        self._guard = guard
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._embedding: asyncio.Task[QueryVector | None] | None = None

    async def __aenter__(self) -> Self:
        if self._request.mode is not SearchMode.TEXT:
            self._embedding = asyncio.create_task(self._embed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._embedding is not None:
            await _end(self._embedding)

    async def answer(self, index: PassageIndex, collections: Sequence[Collection]) -> list[_Found]:
        """The best passages of all of the collections, the best first."""
        each = await _together(*(self._search(index, collection) for collection in collections))
        found = [hit for hits in each for hit in hits if hit.score >= self._request.min_score]
        # Each collection's are in order already, and stay so where scores are equal.
        found.sort(key=lambda hit: -hit.score)
        return found[: self._request.top_k]

    async def _search(self, index: PassageIndex, collection: Collection) -> list[_Found]:
        async with self._turns:
            match self._request.mode:
                case SearchMode.TEXT:
                    return await self._by_text(index, collection)
                case SearchMode.DENSE:
                    return await self._by_vector(index, collection)
                case SearchMode.HYBRID:
                    return await self._by_both(index, collection)
                case _:
                    assert_never(self._request.mode)

    async def _by_text(self, index: PassageIndex, collection: Collection) -> list[_Found]:
        words = await index.words(collection, self._request.query)
        hits = await index.by_text(collection, words, **self._limits)
        return _ranked_by_text(collection, hits, words)

    async def _by_vector(self, index: PassageIndex, collection: Collection) -> list[_Found]:
        query = await self._vector()
        hits = [] if query is None else await index.by_vector(collection, query, **self._limits)
        return [_found(collection, hit, min(1.0, max(0.0, hit.dense or 0.0))) for hit in hits]

    async def _by_both(self, index: PassageIndex, collection: Collection) -> list[_Found]:
        """Both parts bring passages, and of all of them both scores are looked up: none counts as 0 for being late."""
        words = await index.words(collection, self._request.query)
        text_part = asyncio.ensure_future(index.by_text(collection, words, **self._limits))
        try:
            query = await self._vector()
            if query is None:
                hits = await text_part
                return _ranked_by_text(collection, hits, words)
            dense, (text, likeness) = await _together(
                index.by_vector(collection, query, words=words, **self._limits),
                self._with_likeness(index, collection, query, text_part),
            )
        finally:
            await _end(text_part)
        cosine = {**likeness.cosines, **{hit.chunk_id: hit.dense for hit in dense}}
        bm25 = {hit.chunk_id: hit.text for hit in (*text, *dense)}
        scale = QueryScale(
            idf_mass=words.idf_mass,
            code_share=code_share(words.known, words.idf_mass),
            mean=likeness.mean,
            deviation=likeness.deviation,
            passages=collection.chunk_count,
        )
        return [
            _Found(collection.id, chunk, score, cosine.get(chunk), bm25.get(chunk))
            for chunk, score in fuse(cosine, bm25, scale)[: self._request.top_k]
        ]

    async def _with_likeness(
        self, index: PassageIndex, collection: Collection, query: QueryVector, text_part: asyncio.Future[list[Hit]]
    ) -> tuple[list[Hit], Likeness]:
        hits = await text_part
        return hits, await index.likeness(collection, query, [hit.chunk_id for hit in hits])

    @property
    def _limits(self) -> _Limits:
        return {"limit": self._depth, "exclude": self._request.exclude_documents}

    async def _embed(self) -> QueryVector | None:
        # Nobody waits for the guard: what takes longest begins first, and is seldom for nothing.
        model_id, embeddings = await _together(
            self._guard.for_searching(), self._embedder.embed([self._request.query], EmbeddingPurpose.QUERY)
        )
        return None if model_id is None else QueryVector(model_id, embeddings.vectors[0])

    async def _vector(self) -> QueryVector | None:
        """None for an index without vectors."""
        assert self._embedding is not None, "words alone need no vector"
        return await asyncio.shield(self._embedding)


class _Limits(TypedDict):
    limit: int
    exclude: Sequence[UUID]


def _ranked_by_text(collection: Collection, hits: Sequence[Hit], words: QueryWords) -> list[_Found]:
    return [_found(collection, hit, text_score(hit.text or 0.0, words.idf_mass)) for hit in hits]


def _found(collection: Collection, hit: Hit, score: float) -> _Found:
    return _Found(collection.id, hit.chunk_id, score, hit.dense, hit.text)


async def _end(work: asyncio.Future[Any]) -> None:
    """Let nothing go on unseen: what it comes to is of no interest any more."""
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all. The first that fails ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _by_collection(found: Sequence[_Found]) -> dict[UUID, list[UUID]]:
    chunks: dict[UUID, list[UUID]] = {}
    for hit in found:
        chunks.setdefault(hit.collection_id, []).append(hit.chunk_id)
    return chunks


def _passage(stored: StoredPassage, found: _Found, collection_id: UUID) -> Passage:
    return Passage(
        chunk_id=stored.id,
        collection_id=collection_id,
        document_id=stored.document_id,
        document_name=stored.document_name,
        position=stored.position,
        text=stored.text,
        heading=stored.heading,
        page=stored.page,
        start=stored.start,
        end=stored.end,
        score=found.score,
        dense_score=found.dense,
        text_score=found.text,
    )
