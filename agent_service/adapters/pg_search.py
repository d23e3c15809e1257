"""Collections in PostgreSQL: finding passages."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import asyncpg

from agent_service.adapters import pg_search_statements as sql
from agent_service.domain import bm25
from agent_service.domain.index_problems import DocumentNotFound
from agent_service.ports.index import Collection, Hit, Likeness, QueryVector, QueryWords, StoredChunk, StoredPassage
from shared.contracts.knowledge import MAX_TOP_K

_COUNT_SECONDS = 60.0

_SAMPLE = 200
_SAMPLES = 256
_SAMPLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Where one way of searching a collection becomes cheaper than the other. In passages, but for `graph_cost`.

    `few`: gone through in less time than it takes to choose among them.
    `exact`: up to here, every passage is compared that has any of the query's words.
    `candidates`: of a larger collection so many are: those that have the rarest of the words, or the common ones often.
    `least`: fewer are too few where more passages have one of the words.
    `graph_visits`: what a search of the graph over the vectors visits at least. `graph_cost`: what a visit costs, in
    comparisons of vectors that lie side by side.
    """

    few: int = 2_000
    exact: int = 10_000
    candidates: int = 2_500
    least: int = MAX_TOP_K
    graph_visits: int = 400
    graph_cost: float = 17.0


@dataclass(frozen=True, slots=True)
class Term:
    lexeme: str
    key: int
    count: int
    weight: float
    tiers: list[tuple[int, int]]
    """Keys of the passages that have it, that have it often, and ever more often, and how many they are."""

    @property
    def place(self) -> int:
        """As the index has it: see `pg_statements`."""
        return (self.key & (2**63 - 1)) % 1_000_000_000 + 1


@dataclass(frozen=True, slots=True)
class _Sample:
    """Passages taken at random, when the collection had so many."""

    chunk_ids: list[UUID]
    of: int
    taken_at: float = field(default_factory=time.monotonic)

    def is_stale(self, collection: Collection) -> bool:
        grown = abs(collection.chunk_count - self.of)
        return grown > 0.1 * self.of or time.monotonic() - self.taken_at > _SAMPLE_SECONDS


class _Connections(Protocol):
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]: ...


class _OneConnection:
    """One for all: who wants it waits for the others."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._free = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[asyncpg.Connection]:
        async with self._free:
            yield self._connection


class PgPassageIndex:
    """A `PassageIndex`."""

    def __init__(self, pool: _Connections, limits: SearchLimits | None = None) -> None:
        self._pool = pool
        self._limits = limits or SearchLimits()
        self._vectors = 0
        self._counted_at = -math.inf
        self._samples: OrderedDict[tuple[UUID, int], _Sample] = OrderedDict()

    @asynccontextmanager
    async def at_one_moment(self) -> AsyncGenerator[PgPassageIndex]:
        async with self._pool.connection() as connection, connection.transaction(isolation="repeatable_read"):
            yield PgPassageIndex(_OneConnection(connection), self._limits)

    async def collections(self, ids: Sequence[UUID]) -> list[Collection]:
        async with self._pool.connection() as connection:
            rows = await connection.fetch(sql.COLLECTIONS, list(ids))
        return [
            Collection(_plain(row["id"]), row["text_config"], row["document_count"], row["chunk_count"]) for row in rows
        ]

    async def words(self, collection: Collection, query: str) -> QueryWords:
        # Nothing is chosen among those of a smaller collection, and six counts for each word are not for nothing.
        tiers = (1, *bm25.TIERS) if collection.chunk_count > self._limits.exact else (1,)
        async with self._pool.connection() as connection:
            rows = await connection.fetch(sql.QUERY_TERMS, collection.id, collection.text_config, query, tiers)
        words = _terms(rows, collection.chunk_count)
        terms = sorted((word for word in words if word.count), key=lambda term: term.count)
        return QueryWords(
            known=[(term.lexeme, term.weight) for term in terms],
            idf_mass=math.fsum(word.weight for word in words),
            weights=_sparse(terms),
            keys=self._keys(terms, collection),
        )

    async def by_text(
        self, collection: Collection, words: QueryWords, *, limit: int, exclude: Sequence[UUID] = ()
    ) -> list[Hit]:
        if not words.known:
            return []
        arguments = (collection.id, words.weights, limit, list(exclude))
        async with self._pool.connection() as connection:
            if words.keys is None:
                rows = await connection.fetch(sql.TEXT_OF_ALL, *arguments)
            else:
                rows = await connection.fetch(sql.TEXT_OF_ANY, *arguments, words.keys)
        return [Hit(row["chunk_id"], text=row["score"]) for row in rows]

    async def by_vector(
        self,
        collection: Collection,
        query: QueryVector,
        *,
        words: QueryWords | None = None,
        limit: int,
        exclude: Sequence[UUID] = (),
    ) -> list[Hit]:
        if words is None:
            by_graph, of_all, weights = sql.VECTORS_BY_GRAPH, sql.VECTORS_OF_ALL, []
        else:
            by_graph, of_all, weights = sql.VECTORS_BY_GRAPH_WITH_TEXT, sql.VECTORS_OF_ALL_WITH_TEXT, [words.weights]
        arguments = (collection.id, query.model_id, query.vector, limit, list(exclude), *weights)
        async with self._pool.connection() as connection:
            if await self._goes_by_graph(connection, collection, limit):
                rows = await connection.fetch(by_graph.replace("SIZE", str(len(query.vector))), *arguments)
                if len(rows) == min(limit, collection.chunk_count):
                    return [Hit(*row) for row in rows]
                # What is left out, or what others have, stood in the way: then every vector is looked at.
            return [Hit(*row) for row in await connection.fetch(of_all, *arguments)]

    async def likeness(self, collection: Collection, query: QueryVector, chunk_ids: Sequence[UUID]) -> Likeness:
        async with self._pool.connection() as connection:
            sample = await self._sample(connection, collection, query.model_id)
            arguments = (collection.id, query.model_id, query.vector, [*sample, *chunk_ids], len(sample))
            rows = {row["chunk_id"]: row for row in await connection.fetch(sql.LIKENESS, *arguments)}
        background = rows.pop(None)
        cosines = {chunk_id: row["cosine"] for chunk_id, row in rows.items()}
        return Likeness(cosines, mean=background["cosine"], deviation=background["deviation"])

    async def passages(self, hits: Mapping[UUID, Sequence[UUID]]) -> list[StoredPassage]:
        pairs = [(collection_id, chunk_id) for collection_id, ids in hits.items() for chunk_id in ids]
        if not pairs:
            return []
        async with self._pool.connection() as connection:
            rows = await connection.fetch(sql.PASSAGES, *map(list, zip(*pairs, strict=True)))
        return [
            StoredPassage(
                *_chunk(row), _plain(row["collection_id"]), _plain(row["document_id"]), row["name"]
            )
            for row in rows
        ]  # fmt: skip

    async def chunks(self, collection_id: UUID, document_id: UUID, *, after: int, limit: int) -> list[StoredChunk]:
        async with self._pool.connection() as connection:
            if await connection.fetchrow(sql.LIVING_DOCUMENT, collection_id, document_id) is None:
                raise DocumentNotFound
            rows = await connection.fetch(sql.CHUNKS, collection_id, document_id, after, limit)
        return [StoredChunk(*_chunk(row)) for row in rows]

    async def _sample(self, connection: asyncpg.Connection, collection: Collection, model_id: int) -> list[UUID]:
        key = (collection.id, model_id)
        sample = self._samples.get(key)
        if sample is None or sample.is_stale(collection):
            rows = await connection.fetch(sql.SAMPLE, *key, _SAMPLE)
            sample = _Sample([row["chunk_id"] for row in rows], collection.chunk_count)
            self._samples[key] = sample
        self._samples.move_to_end(key)
        while len(self._samples) > _SAMPLES:
            self._samples.popitem(last=False)
        return sample.chunk_ids

    async def _goes_by_graph(self, connection: asyncpg.Connection, collection: Collection, limit: int) -> bool:
        """Whether the graph over everybody's vectors is the cheaper way to those of one collection.

        Of what the graph finds, the collection's share counts only; going through the collection costs its size.
        """
        now = time.monotonic()
        if now - self._counted_at > _COUNT_SECONDS:
            self._vectors = await connection.fetchval(sql.VECTOR_COUNT)
            self._counted_at = now
        everything = max(self._vectors, collection.chunk_count, 1)
        share = collection.chunk_count / everything
        visits = max(self._limits.graph_visits, limit / max(share, 1e-9))
        return collection.chunk_count > visits * self._limits.graph_cost

    def _keys(self, terms: Sequence[Term], collection: Collection) -> list[int] | None:
        if collection.chunk_count <= self._limits.few:
            return None
        if collection.chunk_count <= self._limits.exact:
            return [term.key for term in terms]
        return promising(terms, most=self._limits.candidates, least=self._limits.least)


def _terms(rows: Sequence[asyncpg.Record], total: int) -> list[Term]:
    """Of rows by word and tier, in this order."""
    terms: list[Term] = []
    for row in rows:
        key, count = row["key"], row["chunk_count"]
        if row["tier"] == 1:
            terms.append(Term(row["lexeme"], key, count, bm25.inverse_frequency(total, count), []))
        terms[-1].tiers.append((key, count))
    return terms


def promising(terms: Sequence[Term], *, most: int, least: int) -> list[int]:
    """Keys that lead to no more than `most` passages, or to few more: of the rarest words first.

    Of a word that more have, those passages are taken that have it often. Where these are fewer than `least`, the
    smallest list that is long enough comes with them, however long.
    """
    keys: list[int] = []
    found = 0
    for term in terms:
        key, count = next((tier for tier in term.tiers if found + tier[1] <= most), (0, 0))
        if count:
            keys.append(key)
            found += count
    enough = [tier for term in terms for tier in term.tiers if tier[1] >= least]
    if found < least and enough:
        keys.append(min(enough, key=lambda tier: tier[1])[0])
    return keys


def _sparse(terms: Sequence[Term]) -> str:
    weights: dict[int, float] = {}
    for term in terms:
        weights[term.place] = weights.get(term.place, 0.0) + term.weight
    return f"{{{','.join(f'{place}:{weight!r}' for place, weight in weights.items())}}}/1000000000"


def _plain(value: UUID) -> UUID:
    # The driver's own kind of UUID is not one that JSON is made of.
    return UUID(int=value.int)


def _chunk(row: asyncpg.Record) -> tuple[UUID, int, str, str | None, int | None, int, int]:
    return (
        _plain(row["id"]), row["position"], row["text"], row["heading"], row["page"], row["start_char"],
        row["end_char"],
    )  # fmt: skip
