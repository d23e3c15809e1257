"""Vectors of messages, made in the background: a few texts at a time, by one worker, with nothing held meanwhile.

What waits is rows, so it survives every restart. A worker that dies between the agent's answer and the commit leaves
texts that are embedded again. A new model replaces the vectors of the one before, sessions one after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.clients.embeddings import TextEmbedder, TextVectors
from chat_api.kit.db import Database, is_store_down
from chat_api.kit.models import new_id
from shared.logging import get_logger

log = get_logger("vectors")

MOST_CHARACTERS = 2_000
"""Of a message. The default model reads a good thousand of them."""
_BATCH = 16
_SESSIONS_AT_ONCE = 100
_LEASE_SECONDS = 90
_IDLE_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0
_TEXT_TO_BLAME: Final = frozenset({400, 413, 422})

_FORGET_MODEL = text("DELETE FROM chat.vector_model")
_FORGET_QUEUE = text("DELETE FROM chat.message_vector_queue")
_ADOPT = text(
    """
    WITH gone AS (
        DELETE FROM chat.vector_model WHERE name <> :model
    )
    INSERT INTO chat.vector_model (name, queued_up_to) VALUES (:model, '00000000-0000-0000-0000-000000000000')
    ON CONFLICT (name) DO NOTHING
    """
)
_LEASE = text(
    """
    UPDATE chat.vector_model
    SET lease_owner = :owner, lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
    WHERE lease_owner = :owner OR lease_expires_at IS NULL OR lease_expires_at < clock_timestamp()
    RETURNING name
    """
)
_RELEASE = text("UPDATE chat.vector_model SET lease_expires_at = NULL, lease_owner = NULL WHERE lease_owner = :owner")
_QUEUE_MORE = text(
    """
    WITH place AS (
        SELECT name, queued_up_to FROM chat.vector_model
        WHERE queued_up_to IS NOT NULL AND lease_owner = :owner FOR UPDATE
    ), next AS MATERIALIZED (
        SELECT s.id FROM place JOIN chat.sessions s ON s.id > place.queued_up_to ORDER BY s.id LIMIT :sessions
    ), queued AS (
        INSERT INTO chat.message_vector_queue (session_id, seq)
        SELECT f.session_id, f.seq FROM place, next JOIN chat.message_search f ON f.session_id = next.id
        WHERE NOT EXISTS (
            SELECT 1 FROM chat.message_vectors v
            WHERE v.session_id = f.session_id AND v.seq = f.seq AND v.model = place.name
        )
        ON CONFLICT DO NOTHING
    )
    UPDATE chat.vector_model SET queued_up_to = (SELECT id FROM next ORDER BY id DESC LIMIT 1)
    FROM place WHERE vector_model.name = place.name
    RETURNING vector_model.queued_up_to
    """
)
# The newest sessions first: what was said lately is asked for most.
_WAITING = text(
    """
    SELECT q.session_id, q.seq, q.version,
        left(CASE WHEN q.seq = 0 THEN s.title ELSE m.content END, :characters) AS content
    FROM (SELECT * FROM chat.message_vector_queue ORDER BY session_id DESC, seq DESC LIMIT :limit) q
    LEFT JOIN chat.messages m ON m.session_id = q.session_id AND m.seq = q.seq
    LEFT JOIN chat.sessions s ON s.id = q.session_id
    """
)
_STORE = text(
    """
    WITH made AS (
        SELECT * FROM unnest(
            CAST(:sessions AS uuid[]), CAST(:seqs AS bigint[]), CAST(:versions AS uuid[]), CAST(:vectors AS text[])
        ) AS made (session_id, seq, version, vector)
    ), free AS MATERIALIZED (
        SELECT q.session_id, q.seq, made.vector FROM made
        JOIN chat.message_vector_queue q ON q.session_id = made.session_id AND q.seq = made.seq
        WHERE q.version = made.version FOR UPDATE OF q SKIP LOCKED
    ), there AS MATERIALIZED (
        -- Whoever deletes it waits for us from here on, and then takes the vector away as well.
        SELECT f.session_id, f.seq FROM free
        JOIN chat.message_search f ON f.session_id = free.session_id AND f.seq = free.seq
        FOR KEY SHARE OF f SKIP LOCKED
    ), done AS (
        DELETE FROM chat.message_vector_queue q USING free
        WHERE q.session_id = free.session_id AND q.seq = free.seq AND (
            EXISTS (SELECT 1 FROM there WHERE there.session_id = q.session_id AND there.seq = q.seq)
            -- What is just being deleted is looked at again: it may stay.
            OR NOT EXISTS (SELECT 1 FROM chat.message_search f WHERE f.session_id = q.session_id AND f.seq = q.seq)
        )
    )
    INSERT INTO chat.message_vectors (session_id, seq, model, vector)
    SELECT free.session_id, free.seq, :model, chat.as_vector(CAST(free.vector AS real[]))
    FROM free JOIN there USING (session_id, seq) WHERE free.vector IS NOT NULL
    ON CONFLICT (session_id, seq) DO UPDATE SET model = excluded.model, vector = excluded.vector
    """
)


@dataclass(frozen=True, slots=True)
class _Waiting:
    session_id: UUID
    seq: int
    version: UUID
    content: str


class MessageVectors:
    """Embeds what waits, one batch a step. Any number may run: one of them works, by its lease."""

    def __init__(self, database: Database, embedder: TextEmbedder) -> None:
        self._database = database
        self._embedder = embedder
        self._owner = str(new_id())

    async def forget(self) -> None:
        """Stop queueing: messages are not embedded any more. The vectors that there are stay."""
        async with self._database.unit() as db:
            await db.execute(_FORGET_MODEL)
            await db.execute(_FORGET_QUEUE)

    async def step(self) -> int:
        """Embed one batch; how many texts it had. Raises what the embedder and the database do."""
        model = await self._embedder.model()
        async with self._database.unit() as db:
            await db.execute(_ADOPT, {"model": model})
            leased = (await db.execute(_LEASE, {"owner": self._owner, "seconds": _LEASE_SECONDS})).first()
        if leased is None:
            return 0
        waiting = await self._waiting()
        if not waiting:
            return 0
        await self._embed(model, waiting)
        return len(waiting)

    async def release(self) -> None:
        """Let another worker go on at once."""
        async with self._database.unit() as db:
            await db.execute(_RELEASE, {"owner": self._owner})

    async def _waiting(self) -> list[_Waiting]:
        while True:
            async with self._database.unit() as db:
                rows = (await db.execute(_WAITING, {"limit": _BATCH, "characters": MOST_CHARACTERS})).all()
                if rows:
                    return [_Waiting(row.session_id, row.seq, row.version, row.content or "") for row in rows]
                moved = await db.execute(_QUEUE_MORE, {"owner": self._owner, "sessions": _SESSIONS_AT_ONCE})
                if moved.scalar_one_or_none() is None:
                    return []

    async def _embed(self, model: str, waiting: Sequence[_Waiting]) -> None:
        texts = [one for one in waiting if one.content.strip()]
        try:
            made = await self._embedder.embed([one.content for one in texts]) if texts else TextVectors(model, [])
        except AgentRefused as refusal:
            if refusal.status not in _TEXT_TO_BLAME:
                raise
            if len(texts) > 1:
                for one in texts:
                    await self._embed(model, [one])
                return
            log.warning("vectors.refused", session_id=str(texts[0].session_id), seq=texts[0].seq, status=refusal.status)
            made = TextVectors(model, [])
        vectors: dict[_Waiting, list[float]] = dict(zip(texts, made.vectors, strict=False))
        await self._store(made.model, [(one, vectors.get(one)) for one in waiting])

    async def _store(self, model: str, made: Sequence[tuple[_Waiting, list[float] | None]]) -> None:
        parameters: dict[str, Any] = {
            "model": model,
            "sessions": [one.session_id for one, _ in made],
            "seqs": [one.seq for one, _ in made],
            "versions": [one.version for one, _ in made],
            "vectors": [None if vector is None else _literal(vector) for _, vector in made],
        }
        async with self._database.unit() as db:
            await db.execute(_STORE, parameters)


def _literal(vector: Sequence[float]) -> str:
    """An array of PostgreSQL's, as text: arrays of arrays cannot be told apart once they are unnested."""
    return "{" + ",".join(map(repr, vector)) + "}"


async def keep_embedding(vectors: MessageVectors) -> None:
    """Step for ever. As long as a batch took, it waits: what people ask the model comes first."""
    patience = _IDLE_SECONDS
    while True:
        started = time.monotonic()
        try:
            embedded = await vectors.step()
        except (AgentUnavailable, AgentBrokeOff, AgentRefused) as problem:
            log.info("vectors.wait", code=problem.code, seconds=patience)
            await asyncio.sleep(max(patience, problem.retry_after or 0))
            patience = min(2 * patience, _LONGEST_WAIT_SECONDS)
            continue
        except Exception as error:  # noqa: BLE001 - the only one that embeds must not die of one bad step
            level = log.warning if is_store_down(error) else log.error
            level("vectors.step_failed", error=type(error).__name__)
            await asyncio.sleep(patience)
            patience = min(2 * patience, _LONGEST_WAIT_SECONDS)
            continue
        patience = _IDLE_SECONDS
        await asyncio.sleep(time.monotonic() - started if embedded else _IDLE_SECONDS)
