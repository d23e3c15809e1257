"""Collections in PostgreSQL: changing them.

A document's transaction takes its locks in one order everywhere: the model, the document, its rows, and last, for as
short as can be, the collection, whose counts and words it changes. So puts of different documents into one collection
run side by side until their ends, and nobody who holds a collection waits for a document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from agent_service.adapters import pg_statements as sql
from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_vectors import encode_halfvecs
from agent_service.domain import bm25
from agent_service.domain.index_problems import CollectionDeleted, StaleVersion
from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import Vector
from agent_service.ports.index import ModelReplaced, NewDocument, VectorsMissing
from shared.logging import get_logger

log = get_logger("index")

_BATCH = 250  # passages per statement: some hundred kilobytes, and well under a second
_KEYS = 1000  # hashes per statement
_REWEIGHED = 500  # passages per transaction, while the collection is locked


class PgDocumentIndex:
    """A `DocumentIndex`. `text_config` is what collections get that are made from now on.

    `publishers` is how many documents are published at a time: one of ten thousand passages takes a minute, and
    searches need connections too.
    """

    def __init__(self, pool: IndexPool, *, text_config: str, publishers: int = 4) -> None:
        self._pool = pool
        self._text_config = text_config
        self._publishing = asyncio.Semaphore(publishers)

    # ---- before a document is published

    async def admit(self, collection_id: UUID, document_id: UUID, version: int, *, owner_id: UUID | None) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(sql.MAKE_COLLECTION, collection_id, owner_id, self._text_config)
            await _living_collection(connection, sql.COLLECTION, collection_id)
            _check_version(await connection.fetchrow(sql.DOCUMENT, collection_id, document_id), version)

    async def holds(self, document: NewDocument, model_id: int) -> bool:
        async with self._pool.connection() as connection:
            stored = await connection.fetchrow(sql.DOCUMENT, document.collection_id, document.id)
            if (
                stored is None
                or stored["deleted_at"] is not None
                or (stored["version"], stored["name"]) != (document.version, document.name)
                or stored["chunk_count"] != len(document.chunks)
            ):
                return False
            rows = await connection.fetch(sql.DOCUMENT_CHUNKS, document.collection_id, document.id, model_id)
        chunks = [(c.text_hash, c.heading, c.page, c.start, c.end) for c in document.chunks]
        return [tuple(row) for row in rows] == chunks

    async def known_texts(self, model_id: int, hashes: Sequence[bytes]) -> set[bytes]:
        known: set[bytes] = set()
        for keys in _slices(hashes, _KEYS):
            async with self._pool.connection() as connection:
                known.update(row["text_hash"] for row in await connection.fetch(sql.KNOWN_TEXTS, model_id, keys))
        return known

    async def keep_vectors(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(sql.KEEP_VECTORS, model_id, list(vectors), encode_halfvecs(vectors.values()))

    async def forget_kept(self, model_id: int, hashes: Sequence[bytes]) -> None:
        for keys in _slices(hashes, _KEYS):
            async with self._pool.connection() as connection:
                await connection.execute(sql.FORGET_KEPT, model_id, keys)
        async with self._pool.connection() as connection:
            await connection.execute(sql.FORGET_OLD)

    # ---- publishing

    async def publish(self, document: NewDocument, model_id: int) -> None:
        place = (document.collection_id, document.id)
        async with self._publishing, self._pool.transaction() as connection:
            dimensions = await connection.fetchval(sql.HOLD_MODEL, model_id)
            if dimensions is None:
                raise ModelReplaced
            collection = await _living_collection(connection, sql.COLLECTION, document.collection_id)
            was_alive = await _lock_document(connection, *place, document.version, document.name)
            await connection.execute(sql.WRITE_DOCUMENT, *place, document.version, document.name, len(document.chunks))
            mean = collection["weighted_mean_length"] or await _mean_length(
                connection, collection["text_config"], document.chunks[:_BATCH]
            )
            words = (document.collection_id, collection["text_config"], mean, bm25.K1, bm25.B)
            old = await _drop_chunks(connection, *place)
            for start in range(0, len(document.chunks), _BATCH):
                chunks = document.chunks[start : start + _BATCH]
                ids = [uuid7() for _ in chunks]
                await connection.execute(sql.ADD_CHUNKS, *place, ids, *_columns(chunks, start))
                added = await connection.execute(
                    sql.ADD_VECTORS, *place, model_id, dimensions, ids, [chunk.text_hash for chunk in chunks]
                )
                if added != f"INSERT 0 {len(chunks)}":
                    raise VectorsMissing
                await connection.execute(sql.ADD_TERMS, *words, ids)
            await connection.execute(sql.DROP_VECTORS, document.collection_id, old)
            collection = await _living_collection(connection, sql.LOCK_COLLECTION, document.collection_id)
            weighted_mean = collection["weighted_mean_length"] or mean
            if bm25.has_drifted(mean, weighted_mean):
                # Another put came first, into the empty collection, and its passages are of other lengths.
                await connection.execute(sql.REWEIGH_DOCUMENT, *words[:2], weighted_mean, *words[3:], document.id)
            await _count(connection, *place, old, documents=0 if was_alive else 1, weighted_mean=weighted_mean)

    async def settle_weights(self, collection_id: UUID) -> None:
        async with self._pool.transaction() as connection:
            lengths = await connection.fetchrow(sql.COLLECTION_LENGTHS, collection_id)
        if lengths is None or not lengths["mean_length"] or lengths["weighted_mean_length"] is None:
            return
        mean: float = lengths["mean_length"]
        if not bm25.has_drifted(mean, lengths["weighted_mean_length"]):
            return
        last: UUID | None = UUID(int=0)
        while last is not None:
            async with self._pool.transaction() as connection:
                if await connection.fetchrow(sql.COLLECTION_LENGTHS, collection_id) is None:
                    return
                last = await connection.fetchval(
                    sql.REWEIGH_BATCH, collection_id, lengths["text_config"], mean, bm25.K1, bm25.B, last, _REWEIGHED
                )
        # Last: whoever is stopped on the way begins anew.
        async with self._pool.connection() as connection:
            await connection.execute(sql.SET_WEIGHTED_MEAN, collection_id, mean)
        log.info("index.reweighed", collection_id=str(collection_id), mean_length=round(mean, 1))

    # ---- deleting

    async def delete_document(
        self, collection_id: UUID, document_id: UUID, *, version: int | None, owner_id: UUID | None
    ) -> None:
        place = (collection_id, document_id)
        async with self._pool.transaction() as connection:
            if version is None:
                stored = await connection.fetchrow(sql.LOCK_DOCUMENT, *place)
                if stored is None:
                    return
                version = stored["version"]
            await connection.execute(sql.MAKE_COLLECTION, collection_id, owner_id, self._text_config)
            collection = await connection.fetchrow(sql.COLLECTION, collection_id)
            if collection["deleted_at"] is not None:
                return
            was_alive = await _lock_document(connection, *place, version, "", buries=True)
            await connection.execute(sql.BURY_DOCUMENT, *place, version)
            if not was_alive:
                return
            old = await _drop_chunks(connection, *place)
            await connection.execute(sql.DROP_VECTORS, collection_id, old)
            collection = await connection.fetchrow(sql.LOCK_COLLECTION, collection_id)
            if collection["deleted_at"] is None:
                await _count(connection, *place, old, documents=-1, weighted_mean=collection["weighted_mean_length"])

    async def delete_collection(self, collection_id: UUID, *, owner_id: UUID | None) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(sql.BURY_COLLECTION, collection_id, owner_id, self._text_config)
        for statement in sql.EMPTY_TABLES:
            deleted = ""
            while deleted != "DELETE 0":
                async with self._pool.connection() as connection:
                    deleted = await connection.execute(statement, collection_id)


async def _living_collection(connection: asyncpg.Connection, statement: str, collection_id: UUID) -> asyncpg.Record:
    collection = await connection.fetchrow(statement, collection_id)
    if collection is None or collection["deleted_at"] is not None:
        raise CollectionDeleted
    return collection


def _check_version(stored: asyncpg.Record | None, version: int) -> None:
    if stored is None:
        return
    # The version that deleted it is not one that brings it back.
    is_dead = stored["deleted_at"] is not None
    if stored["version"] > version or (is_dead and stored["version"] == version):
        raise StaleVersion


async def _lock_document(
    connection: asyncpg.Connection,
    collection_id: UUID,
    document_id: UUID,
    version: int,
    name: str,
    *,
    buries: bool = False,
) -> bool:
    """Hold the document's row, made if need be, until the transaction ends. Whether it was alive."""
    # Version 0 is older than any: the row says nothing yet.
    await connection.execute(sql.MAKE_DOCUMENT, collection_id, document_id, 0, name)
    stored = await connection.fetchrow(sql.LOCK_DOCUMENT, collection_id, document_id)
    is_alive: bool = stored["deleted_at"] is None
    if buries and not is_alive and stored["version"] == version:
        return False
    _check_version(stored, version)
    return is_alive


async def _mean_length(connection: asyncpg.Connection, text_config: str, chunks: Sequence[NewChunk]) -> float:
    """Of the first passages of the first document: near enough, and made right when it turns out not to be."""
    mean: float | None = await connection.fetchval(
        sql.MEAN_LENGTH, text_config, [chunk.embedded_text for chunk in chunks]
    )
    return mean or 1.0


async def _drop_chunks(connection: asyncpg.Connection, collection_id: UUID, document_id: UUID) -> list[UUID]:
    """The ids of the document's passages, which have no text any more."""
    return [row["id"] for row in await connection.fetch(sql.DROP_CHUNKS, collection_id, document_id)]


async def _count(
    connection: asyncpg.Connection,
    collection_id: UUID,
    document_id: UUID,
    old: Sequence[UUID],
    *,
    documents: int,
    weighted_mean: float,
) -> None:
    """What the document changes in its collection, which is locked. `old` are the passages that it had."""
    change = await connection.fetchrow(sql.COUNT_TERMS, collection_id, document_id, old)
    if change["unused"]:
        await connection.execute(sql.DROP_TERMS, collection_id, change["unused"])
    await connection.execute(
        sql.COUNT_COLLECTION, collection_id, documents, change["chunks"], change["length"], weighted_mean
    )


def _columns(chunks: Sequence[NewChunk], first: int) -> tuple[list[object], ...]:
    """Positions, texts, headings, pages, starts and ends."""
    rows = [(first + i, c.text, c.heading, c.page, c.start, c.end) for i, c in enumerate(chunks)]
    return tuple(list(column) for column in zip(*rows, strict=True))


def _slices(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
