"""Passages by the hundred thousand, with vectors that are near to each other where their texts are.

Sentences of a manual are embedded by the real model; a passage is some of them, and its vector their weighted sum with
a little noise. To embed so many texts would take an hour. They are published through the index itself.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics
from uuid import UUID

import asyncpg
import click
import numpy as np
from numpy.typing import NDArray

from agent_service.adapters.local_embedder import LocalEmbedder
from agent_service.adapters.pg_index import PgDocumentIndex
from agent_service.adapters.pg_vectors import encode_halfvecs
from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import EmbeddingPurpose, Vector
from agent_service.ports.index import NewDocument
from chat_api.kit.models import new_id

_SENTENCES_A_PASSAGE = 6
_NOISE = 0.02
_DOCUMENT = 500
_HNSW = "ix_chunk_vectors_hnsw_384"

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Sentences:
    """Texts and their unit vectors, row by row."""

    texts: list[str]
    vectors: Matrix


@dataclass(frozen=True)
class Query:
    text: str
    vector: Vector


def sentences(count: int, seed: str) -> tuple[list[str], list[str]]:
    """`count` sentences to make passages of, and 400 others to ask with."""
    found = {
        " ".join(part.split())
        for text in topics.values()
        for paragraph in text.split("\n\n")
        for part in paragraph.split(". ")
        if 40 < len(part) < 220 and ">>>" not in part
    }
    shuffled = sorted(found)
    random.Random(seed).shuffle(shuffled)
    return shuffled[400 : count + 400], shuffled[:400]


async def embedded(texts: Sequence[str]) -> Sentences:
    embedder = LocalEmbedder()
    try:
        rows: list[Vector] = []
        with click.progressbar(range(0, len(texts), 128), label="sentences embedded") as starts:
            for start in starts:
                rows += (await embedder.embed(texts[start : start + 128])).vectors
        return Sentences(list(texts), np.array(rows, dtype=np.float32))
    finally:
        await embedder.aclose()


async def asked(texts: Sequence[str]) -> list[Query]:
    """Each query as the agent would embed it."""
    embedder = LocalEmbedder()
    try:
        vectors = (await embedder.embed(texts, EmbeddingPurpose.QUERY)).vectors
        return [Query(text, vector) for text, vector in zip(texts, vectors, strict=True)]
    finally:
        await embedder.aclose()


class Loader:
    """Puts passages into collections. `owner` may change the schema."""

    def __init__(self, index: PgDocumentIndex, owner: asyncpg.Connection, model_id: int, base: Sentences) -> None:
        self._index = index
        self._owner = owner
        self._model_id = model_id
        self._base = base
        self._chosen = np.random.default_rng(7)

    async def load(self, collections: Sequence[UUID], each: int, *, label: str) -> None:
        """`each` new passages for every collection, through the index, as a put would leave them."""
        with click.progressbar(length=len(collections) * each, label=label) as bar:
            for collection_id in collections:
                for start in range(0, each, _DOCUMENT):
                    size = min(_DOCUMENT, each - start)
                    await self._put(collection_id, f"{start}.txt", size)
                    bar.update(size)

    async def _put(self, collection_id: UUID, name: str, size: int) -> None:
        chunks, vectors = self._passages(size)
        document = NewDocument(collection_id, new_id(), 1, name, chunks)
        await self._index.admit(collection_id, document.id, 1, owner_id=None)
        hashes = [chunk.text_hash for chunk in chunks]
        await self._index.keep_vectors(self._model_id, dict(zip(hashes, vectors, strict=True)))
        await self._index.publish(document, self._model_id)
        await self._index.forget_kept(self._model_id, hashes)

    async def load_vectors(self, collection_id: UUID, count: int) -> None:
        """`count` vectors more, without texts or words: enough where only nearness is asked for."""
        for start in range(0, count, 5_000):
            size = min(5_000, count - start)
            _, vectors = self._passages(size)
            await self._owner.execute(
                "INSERT INTO agent.chunk_vectors"
                " (collection_id, chunk_id, document_id, model_id, dimensions, text_hash, embedding)"
                " SELECT $1, uuidv7(), $1, $2, 384, uuid_send(uuidv7()), v FROM unnest($3::public.halfvec[]) AS v",
                collection_id,
                self._model_id,
                encode_halfvecs(vectors),
            )
        await self._owner.execute(
            "UPDATE agent.collections SET chunk_count = chunk_count + $2 WHERE id = $1", collection_id, count
        )

    async def without_graph(self) -> str:
        """Drop the graph index, and return the statement that makes it: in one go that takes a tenth of the time."""
        definition: str = await self._owner.fetchval(
            "SELECT pg_get_indexdef(format('agent.%s', $1::text)::regclass)", _HNSW
        )
        await self._owner.execute(f"DROP INDEX agent.{_HNSW}")
        return definition

    async def with_graph(self, definition: str) -> None:
        await self._owner.execute("SET maintenance_work_mem = '1GB'")
        await self._owner.execute(definition, timeout=1_800)
        await self._owner.execute("VACUUM (ANALYZE) agent.chunk_vectors")
        await self._owner.execute("VACUUM (ANALYZE) agent.chunk_terms")

    def _passages(self, count: int) -> tuple[list[NewChunk], list[Vector]]:
        rows = self._chosen.integers(0, len(self._base.texts), (count, _SENTENCES_A_PASSAGE))
        shares = self._chosen.exponential(1.0, rows.shape).astype(np.float32)
        made = np.einsum("ps,psd->pd", shares, self._base.vectors[rows])
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        made += self._chosen.normal(0, _NOISE, made.shape).astype(np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        chunks = []
        for row in rows:
            # A number of its own: no two passages are the same text.
            text = ". ".join(self._base.texts[index] for index in row) + f" ({new_id().hex[-8:]})."
            chunks.append(NewChunk(text=text, heading=None, page=None, start=0, end=len(text)))
        return chunks, [array_of(vector) for vector in made]


def array_of(vector: Matrix) -> Vector:
    return array("f", vector.tobytes())
