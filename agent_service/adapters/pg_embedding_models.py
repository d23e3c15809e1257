"""Which embedding model the index belongs to, in PostgreSQL.

Every change of the model holds the row of `agent.index_state`, and whoever publishes vectors holds a share of it: so
no vector of another model comes in once the index has been given away.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_statements import HOLD_MODEL
from agent_service.adapters.pg_vectors import encode_halfvecs
from agent_service.domain.passage import embedded_text
from agent_service.ports.embedder import Vector
from agent_service.ports.embedding_models import IndexModel, OutdatedText

_CURRENT = """
    SELECT m.id, m.name, s.complete FROM agent.index_state s JOIN agent.embedding_models m ON m.id = s.model_id
"""
_LOCK_CURRENT = _CURRENT + " FOR UPDATE OF s"
_MODEL_ID = "SELECT id FROM agent.embedding_models WHERE name = $1"
_ADD_MODEL = "INSERT INTO agent.embedding_models (name, dimensions) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
_TAKE_NEW = "INSERT INTO agent.index_state (model_id, complete) VALUES ($1, true) ON CONFLICT (singleton) DO NOTHING"
_TAKE = "UPDATE agent.index_state SET model_id = $1, complete = $2 WHERE model_id <> $1"
_COMPLETE = "UPDATE agent.index_state SET complete = true WHERE model_id = $1"
_IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM agent.chunk_vectors)"
# Two ranges, because an index cannot look for what is not equal.
_IS_OF_ONE_MODEL = """
    SELECT NOT EXISTS (SELECT FROM agent.chunk_vectors WHERE model_id < $1)
       AND NOT EXISTS (SELECT FROM agent.chunk_vectors WHERE model_id > $1)
"""
_OUTDATED = """
    WITH outdated AS (
        SELECT DISTINCT text_hash FROM agent.chunk_vectors
        WHERE text_hash > $2 AND model_id <> $1
        ORDER BY text_hash LIMIT $3
    )
    SELECT o.text_hash, c.heading, c.text, known.embedding
    FROM outdated o
    CROSS JOIN LATERAL (
        SELECT c.heading, c.text
        FROM agent.chunk_vectors v
        JOIN agent.chunks c ON c.collection_id = v.collection_id AND c.id = v.chunk_id
        WHERE v.text_hash = o.text_hash AND v.model_id <> $1
        LIMIT 1
    ) AS c
    LEFT JOIN LATERAL (
        SELECT e.embedding FROM agent.embedded_texts e WHERE e.model_id = $1 AND e.text_hash = o.text_hash
        UNION ALL
        SELECT v.embedding FROM agent.chunk_vectors v WHERE v.text_hash = o.text_hash AND v.model_id = $1
        LIMIT 1
    ) AS known ON true
    ORDER BY o.text_hash
"""
# Rows that a put or a delete holds are left for later: nobody who holds rows here waits for more of them.
_REPLACE = """
    WITH held AS (
        SELECT collection_id, chunk_id, text_hash FROM agent.chunk_vectors
        WHERE text_hash = ANY ($3::bytea[]) AND model_id <> $1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE agent.chunk_vectors v SET model_id = $1, dimensions = $2, embedding = n.embedding
    FROM held JOIN unnest($3::bytea[], $4::halfvec[]) AS n(text_hash, embedding) ON n.text_hash = held.text_hash
    WHERE v.collection_id = held.collection_id AND v.chunk_id = held.chunk_id
"""
_PROGRESS = "SELECT count(*) FILTER (WHERE model_id = $1) AS done, count(*) AS total FROM agent.chunk_vectors"


class PgEmbeddingModels:
    """An `EmbeddingModels`."""

    def __init__(self, pool: IndexPool) -> None:
        self._pool = pool

    async def current(self) -> IndexModel | None:
        async with self._pool.connection() as connection:
            row = await connection.fetchrow(_CURRENT)
        return None if row is None else _model(row)

    async def adopt(self, name: str, dimensions: int) -> IndexModel:
        async with self._pool.transaction() as connection:
            model_id = await _id_of(connection, name, dimensions)
            await connection.execute(_TAKE_NEW, model_id)
            current = _model(await connection.fetchrow(_LOCK_CURRENT))
            if current.id == model_id or not await connection.fetchval(_IS_EMPTY):
                return current
            await connection.execute(_TAKE, model_id, True)
            return IndexModel(model_id, name, complete=True)

    async def assign(self, name: str, dimensions: int) -> IndexModel:
        async with self._pool.transaction() as connection:
            model_id = await _id_of(connection, name, dimensions)
            await connection.execute(_TAKE_NEW, model_id)
            await connection.execute(_TAKE, model_id, False)
            return _model(await connection.fetchrow(_CURRENT))

    async def outdated(self, model_id: int, *, after: bytes, limit: int) -> list[OutdatedText]:
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_OUTDATED, model_id, after, limit)
        return [
            OutdatedText(row["text_hash"], embedded_text(row["heading"], row["text"]), row["embedding"]) for row in rows
        ]

    async def replace(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        async with self._pool.transaction() as connection:
            dimensions = await connection.fetchval(HOLD_MODEL, model_id)
            if dimensions is not None:
                await connection.execute(
                    _REPLACE, model_id, dimensions, list(vectors), encode_halfvecs(vectors.values())
                )

    async def finish(self, model_id: int) -> bool:
        async with self._pool.transaction() as connection:
            current = await connection.fetchrow(_LOCK_CURRENT)
            if current is None or current["id"] != model_id:
                return False
            is_complete: bool = await connection.fetchval(_IS_OF_ONE_MODEL, model_id)
            if is_complete:
                await connection.execute(_COMPLETE, model_id)
            return is_complete

    async def progress(self, model_id: int) -> tuple[int, int]:
        async with self._pool.connection() as connection:
            row = await connection.fetchrow(_PROGRESS, model_id)
        return row["done"], row["total"]


async def _id_of(connection: asyncpg.Connection, name: str, dimensions: int) -> int:
    """The model's id, given at its first mention. Asked for first: every attempt to insert uses one of 32,767 up."""
    model_id: int | None = await connection.fetchval(_MODEL_ID, name)
    if model_id is None:
        await connection.execute(_ADD_MODEL, name, dimensions)
        model_id = await connection.fetchval(_MODEL_ID, name)
    assert model_id is not None
    return model_id


def _model(row: asyncpg.Record) -> IndexModel:
    return IndexModel(row["id"], row["name"], row["complete"])
