"""An index in memory: collections, their passages and which model their vectors are of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from agent_service.domain.bm25 import K1, B, inverse_frequency
from agent_service.domain.index_problems import CollectionDeleted, DocumentNotFound, IndexUnavailable, StaleVersion
from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import Vector
from agent_service.ports.embedding_models import IndexModel
from agent_service.ports.index import (
    Collection,
    Hit,
    Likeness,
    NewDocument,
    QueryVector,
    QueryWords,
    StoredChunk,
    StoredPassage,
    VectorsMissing,
)


class OneModel:
    """As much of `EmbeddingModels` as the guard asks for: an index that belongs to the first who comes."""

    def __init__(self, name: str | None = None) -> None:
        self.state = None if name is None else IndexModel(1, name, complete=True)

    async def current(self) -> IndexModel | None:
        return self.state

    async def adopt(self, name: str, dimensions: int) -> IndexModel:
        self.state = self.state or IndexModel(1, name, complete=True)
        return self.state


@dataclass
class _Stored:
    version: int
    name: str
    chunks: dict[UUID, NewChunk] = field(default_factory=dict)
    is_deleted: bool = False


class MemoryIndex:
    """A `DocumentIndex` and a `PassageIndex`. Words are what white space parts.

    `before_publish` and `before_passages` run just before those steps, for what happens in between; an exception of
    theirs comes out there. With `is_away` nothing answers.
    """

    def __init__(self) -> None:
        self.documents: dict[UUID, dict[UUID, _Stored]] = {}
        self.deleted: set[UUID] = set()
        self.vectors: dict[bytes, Vector] = {}
        self.settled: list[UUID] = []
        self.before_publish: Callable[[], None] = lambda: None
        self.before_passages: Callable[[], None] = lambda: None
        self.is_away = False

    # ---- changes

    async def admit(self, collection_id: UUID, document_id: UUID, version: int, *, owner_id: UUID | None) -> None:
        self._check(collection_id, document_id, version)
        self.documents.setdefault(collection_id, {})

    async def holds(self, document: NewDocument, model_id: int) -> bool:
        stored = self.documents.get(document.collection_id, {}).get(document.id)
        return (
            stored is not None
            and not stored.is_deleted
            and (stored.version, stored.name) == (document.version, document.name)
            and list(stored.chunks.values()) == list(document.chunks)
        )

    async def known_texts(self, model_id: int, hashes: Sequence[bytes]) -> set[bytes]:
        self._answer()
        return self.vectors.keys() & set(hashes)

    async def keep_vectors(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        self._answer()
        self.vectors.update(vectors)

    async def publish(self, document: NewDocument, model_id: int) -> None:
        self.before_publish()
        self._check(document.collection_id, document.id, document.version)
        if any(chunk.text_hash not in self.vectors for chunk in document.chunks):
            raise VectorsMissing
        chunks = {uuid4(): chunk for chunk in document.chunks}
        documents = self.documents.setdefault(document.collection_id, {})
        documents[document.id] = _Stored(document.version, document.name, chunks)

    async def forget_kept(self, model_id: int, hashes: Sequence[bytes]) -> None:
        self._answer()

    async def settle_weights(self, collection_id: UUID) -> None:
        self._answer()
        self.settled.append(collection_id)

    async def delete_document(
        self, collection_id: UUID, document_id: UUID, *, version: int | None, owner_id: UUID | None
    ) -> None:
        documents = self.documents.setdefault(collection_id, {})
        if version is None and document_id not in documents:
            return
        version = version or documents[document_id].version
        if document_id in documents and documents[document_id].version > version:
            raise StaleVersion
        documents[document_id] = _Stored(version, "", is_deleted=True)

    async def delete_collection(self, collection_id: UUID, *, owner_id: UUID | None) -> None:
        self.documents.pop(collection_id, None)
        self.deleted.add(collection_id)

    # ---- reading

    @asynccontextmanager
    async def at_one_moment(self) -> AsyncGenerator[MemoryIndex]:
        before, self.before_passages = self.before_passages, lambda: None
        yield self
        self.before_passages = before

    async def collections(self, ids: Sequence[UUID]) -> list[Collection]:
        self._answer()
        found = [(each, self._living(each)) for each in ids if each in self.documents]
        return [
            Collection(each, "english", len(living), sum(len(stored.chunks) for stored in living.values()))
            for each, living in found
        ]

    async def words(self, collection: Collection, query: str) -> QueryWords:
        texts = [set(chunk.embedded_text.lower().split()) for chunk in self._chunks(collection.id).values()]
        counts = {word: sum(word in text for text in texts) for word in query.lower().split()}
        weights = {word: inverse_frequency(len(texts), count) for word, count in counts.items()}
        known = [(word, weight) for word, weight in weights.items() if counts[word]]
        return QueryWords(known, math.fsum(weights.values()), query.lower(), None)

    async def by_text(
        self, collection: Collection, words: QueryWords, *, limit: int, exclude: Sequence[UUID] = ()
    ) -> list[Hit]:
        scores = self._bm25(collection, words)
        chosen = self._chunks(collection.id, exclude)
        hits = [Hit(chunk, text=scores[chunk]) for chunk in chosen if scores[chunk] > 0]
        return sorted(hits, key=lambda hit: -(hit.text or 0))[:limit]

    async def by_vector(
        self,
        collection: Collection,
        query: QueryVector,
        *,
        words: QueryWords | None = None,
        limit: int,
        exclude: Sequence[UUID] = (),
    ) -> list[Hit]:
        scores = {} if words is None else self._bm25(collection, words)
        cosines = self._cosines(self._chunks(collection.id, exclude), query)
        hits = [Hit(chunk, cosine, scores.get(chunk)) for chunk, cosine in cosines.items()]
        return sorted(hits, key=lambda hit: -(hit.dense or 0))[:limit]

    async def likeness(self, collection: Collection, query: QueryVector, chunk_ids: Sequence[UUID]) -> Likeness:
        cosines = self._cosines(self._chunks(collection.id), query)
        mean = sum(cosines.values()) / len(cosines)
        deviation = math.sqrt(sum((cosine - mean) ** 2 for cosine in cosines.values()) / len(cosines))
        return Likeness({chunk: cosines[chunk] for chunk in chunk_ids}, mean, deviation)

    async def passages(self, hits: Mapping[UUID, Sequence[UUID]]) -> list[StoredPassage]:
        self.before_passages()
        return [
            StoredPassage(
                id=chunk_id,
                position=position,
                text=chunk.text,
                heading=chunk.heading,
                page=chunk.page,
                start=chunk.start,
                end=chunk.end,
                collection_id=collection_id,
                document_id=document_id,
                document_name=stored.name,
            )
            for collection_id, wanted in hits.items()
            for document_id, stored in self._living(collection_id).items()
            for position, (chunk_id, chunk) in enumerate(stored.chunks.items())
            if chunk_id in wanted
        ]

    async def chunks(self, collection_id: UUID, document_id: UUID, *, after: int, limit: int) -> list[StoredChunk]:
        if document_id not in self._living(collection_id):
            raise DocumentNotFound
        chunks = self._living(collection_id)[document_id].chunks
        read = [
            StoredChunk(chunk_id, position, chunk.text, chunk.heading, chunk.page, chunk.start, chunk.end)
            for position, (chunk_id, chunk) in enumerate(chunks.items())
        ]
        return [chunk for chunk in read if chunk.position > after][:limit]

    # ---- inside

    def _answer(self) -> None:
        if self.is_away:
            raise IndexUnavailable

    def _check(self, collection_id: UUID, document_id: UUID, version: int) -> None:
        self._answer()
        if collection_id in self.deleted:
            raise CollectionDeleted
        stored = self.documents.get(collection_id, {}).get(document_id)
        if stored is not None and stored.version + stored.is_deleted > version:
            raise StaleVersion

    def _living(self, collection_id: UUID) -> dict[UUID, _Stored]:
        documents = self.documents.get(collection_id, {})
        return {each: stored for each, stored in documents.items() if not stored.is_deleted}

    def _chunks(self, collection_id: UUID, exclude: Sequence[UUID] = ()) -> dict[UUID, NewChunk]:
        living = self._living(collection_id)
        return {
            id_: chunk for each, stored in living.items() if each not in exclude for id_, chunk in stored.chunks.items()
        }

    def _cosines(self, chunks: Mapping[UUID, NewChunk], query: QueryVector) -> dict[UUID, float]:
        return {
            each: sum(a * b for a, b in zip(query.vector, self.vectors[chunk.text_hash], strict=True))
            for each, chunk in chunks.items()
        }

    def _bm25(self, collection: Collection, words: QueryWords) -> dict[UUID, float]:
        counts = {each: Counter(c.embedded_text.lower().split()) for each, c in self._chunks(collection.id).items()}
        mean = sum(count.total() for count in counts.values()) / max(1, len(counts))
        known = dict(words.known)

        def score(count: Counter[str]) -> float:
            dampened = K1 * (1 - B + B * count.total() / mean)
            return sum(idf * count[word] * (K1 + 1) / (count[word] + dampened) for word, idf in known.items())

        return {each: score(count) for each, count in counts.items()}
