"""Where passages are kept and found: collections of documents, their chunks, vectors and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import Vector


@dataclass(frozen=True, slots=True)
class Collection:
    """One that exists. `text_config` is PostgreSQL's text search configuration, by which its words are compared."""

    id: UUID
    text_config: str
    document_count: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as it is to be searched."""

    collection_id: UUID
    id: UUID
    version: int
    name: str
    chunks: Sequence[NewChunk]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    id: UUID
    position: int
    text: str
    heading: str | None
    page: int | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StoredPassage(StoredChunk):
    collection_id: UUID
    document_id: UUID
    document_name: str


class Hit(NamedTuple):
    """A passage that one part of a search found, with its cosine, or BM25, or both where both are known."""

    chunk_id: UUID
    dense: float | None = None
    text: float | None = None


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A query as the model `model_id` embedded it: only vectors of that model are near to it or far."""

    model_id: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class QueryWords:
    """The words of a query as one collection knows them.

    `known` are those that passages have, with their inverse frequencies; `idf_mass` is the sum of these and of those of
    its other words. `weights` is the query as the store compares it with passages, and `keys` lead the store to the
    passages that may be the best.
    """

    known: list[tuple[str, float]]
    idf_mass: float
    weights: str
    keys: list[int] | None


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near passages are to a query, by chunk, and how near those are that were taken at random.

    `mean` and `deviation` are of the cosines of some hundred passages: what no likeness at all looks like.
    """

    cosines: Mapping[UUID, float]
    mean: float
    deviation: float


class VectorsMissing(Exception):
    """Texts that had a vector a moment ago have none any more: the documents they were known from are gone."""


class ModelReplaced(Exception):
    """The index has come to belong to another embedding model while a document was embedded."""


class DocumentIndex(Protocol):
    """Changes to collections. Every method raises `IndexUnavailable` when the store does not answer."""

    async def admit(self, collection_id: UUID, document_id: UUID, version: int, *, owner_id: UUID | None) -> None:
        """Make the collection unless it is there, and see that the document may be put.

        Raises `CollectionDeleted`, `StaleVersion`.
        """
        ...

    async def holds(self, document: NewDocument, model_id: int) -> bool:
        """Whether this very document is what is searched already."""
        ...

    async def known_texts(self, model_id: int, hashes: Sequence[bytes]) -> set[bytes]:
        """Which of these texts have a vector of the model, published or kept."""
        ...

    async def keep_vectors(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        """Keep vectors of texts until their document is published, so that a put that was cut goes on from there."""
        ...

    async def publish(self, document: NewDocument, model_id: int) -> None:
        """Replace the document as a whole, in one step.

        Raises `CollectionDeleted`, `StaleVersion`, `VectorsMissing`, `ModelReplaced`.
        """
        ...

    async def forget_kept(self, model_id: int, hashes: Sequence[bytes]) -> None:
        """Drop kept vectors that are published now, and those of puts that nobody has finished for days."""
        ...

    async def settle_weights(self, collection_id: UUID) -> None:
        """Weigh the collection's words anew if its passages have become much longer or shorter on average."""
        ...

    async def delete_document(
        self, collection_id: UUID, document_id: UUID, *, version: int | None, owner_id: UUID | None
    ) -> None:
        """Leaves a tombstone of the version, also where there was nothing: a late put does not bring it back.

        Without a version, what is stored is deleted, whichever version it is. Raises `StaleVersion` when it is newer.
        """
        ...

    async def delete_collection(self, collection_id: UUID, *, owner_id: UUID | None) -> None:
        """Invisible at once, gone when this returns, and it takes no document ever again."""
        ...


class PassageIndex(Protocol):
    """Reading from collections. Every method raises `IndexUnavailable` when the store does not answer."""

    def at_one_moment(self) -> AbstractAsyncContextManager[PassageIndex]:
        """The same, on what is stored at this moment, whatever is changed meanwhile. Slower: one thing at a time."""
        ...

    async def collections(self, ids: Sequence[UUID]) -> list[Collection]:
        """Those that exist."""
        ...

    async def words(self, collection: Collection, query: str) -> QueryWords:
        """What the collection knows of the query's words."""
        ...

    async def by_text(
        self, collection: Collection, words: QueryWords, *, limit: int, exclude: Sequence[UUID] = ()
    ) -> list[Hit]:
        """The passages with the highest BM25, best first. A passage without any of the words is none of them."""
        ...

    async def by_vector(
        self,
        collection: Collection,
        query: QueryVector,
        *,
        words: QueryWords | None = None,
        limit: int,
        exclude: Sequence[UUID] = (),
    ) -> list[Hit]:
        """The passages with the nearest vectors, best first; with BM25, too, where the words are given."""
        ...

    async def likeness(self, collection: Collection, query: QueryVector, chunk_ids: Sequence[UUID]) -> Likeness:
        """Of these passages, and of some of the collection's that stay the same for a while."""
        ...

    async def passages(self, hits: Mapping[UUID, Sequence[UUID]]) -> list[StoredPassage]:
        """Passages by collection and chunk, in any order. Those that are gone meanwhile are left out."""
        ...

    async def chunks(self, collection_id: UUID, document_id: UUID, *, after: int, limit: int) -> list[StoredChunk]:
        """Passages of one document behind the position `after`. Raises `DocumentNotFound`."""
        ...
