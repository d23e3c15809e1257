"""Documents with passages: handbooks of many towns, which share most of their rules.

Their vectors are real. Texts that are embedded once are known to the agent by their hashes, so of 50 documents with
200 passages each it embeds about 300 texts: those that are shared, and an introduction for each document.

A document's job for the worker is stored with it, due later. Whatever stops us half-way, the agent being away too,
the worker finishes.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import assert_never
from uuid import UUID

import asyncpg
import orjson

from chat_api.cli.progress import Bar
from chat_api.cli.seeding import words
from chat_api.cli.seeding.conversations import Ids
from chat_api.cli.seeding.size import Amount
from chat_api.cli.seeding.writing import Writer, passages
from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.reading import read_document
from chat_api.documents.storage import storage_key
from chat_api.kit.storage import Storage
from shared.contracts.knowledge import Block, DocumentPut, IndexedDocument, IndexFailed, IndexProgress

_AT_ONCE = 2
_MAX_CHARACTERS = 1_000_000
_VERSION = 1
_INTRODUCTION = "It was last read through in {year}, by the {worker} of the {name}. Mistakes are told them by {day}."
_ADD_BOT = """
    INSERT INTO chat.bots (id, owner_id, name, description, system_prompt, configuration, visibility)
    VALUES ($1, $2, $3, $4, $5, '{"agent_type": "rag"}', 'public')
"""
_ADD_DOCUMENT = """
    INSERT INTO chat.documents (id, bot_id, uploaded_by, name, content_type, size_bytes, sha256, storage_key, status,
        version, progress_total)
    SELECT $1, $2, b.owner_id, $3, $4, $5, $6, $7, 'processing', $8, $9 FROM chat.bots b WHERE b.id = $2
"""
_ADD_JOB = """
    INSERT INTO chat.outbox (id, topic, subject_id, payload, available_at)
    VALUES ($1, 'document.index', $2, $3, now() + interval '10 minutes')
"""
_FINISH = """
    WITH done AS (DELETE FROM chat.outbox WHERE id = $2)
    UPDATE chat.documents SET status = 'ready', chunk_count = $4, progress_done = $4, progress_total = $4,
        indexed_at = now()
    WHERE id = $1 AND version = $3 AND deleted_at IS NULL
"""
_LEAVE = """
    WITH due AS (UPDATE chat.outbox SET available_at = now() WHERE id = ANY ($2::uuid[]))
    UPDATE chat.documents SET status = 'pending' WHERE id = ANY ($1::uuid[]) AND status = 'processing'
"""


@dataclass(frozen=True)
class SeededDocument:
    id: UUID
    job_id: UUID
    bot_id: UUID
    name: str
    content: bytes
    blocks: list[Block]


@dataclass(frozen=True)
class DocumentsSeeded:
    """`waiting` are left to the worker, for `reason`. `is_agent_away`: because the agent was not to be reached."""

    ready: int
    passages: int
    embedded: int
    waiting: int
    reason: str | None
    is_agent_away: bool = False


def write_documents(
    chosen: random.Random, ids: Ids, bots: Sequence[UUID], amount: Amount, now: datetime
) -> list[SeededDocument]:
    """A pure function of its arguments: the same documents each time."""
    writer = Writer(chosen)
    pool = passages()
    found = []
    for number in range(amount.documents):
        town = words.TOWNS[number % len(words.TOWNS)]
        content = _markdown(town, writer, chosen.sample(pool, amount.chunks - 1))
        found.append(
            SeededDocument(
                id=ids.at(now),
                job_id=ids.at(now),
                bot_id=bots[number % len(bots)],
                name=f"Handbook of {town}.md",
                content=content,
                blocks=_blocks(content),
            )
        )
    return found


def _markdown(town: str, writer: Writer, chosen: Sequence[tuple[str, str]]) -> bytes:
    subject = writer.subject()
    introduction = f"This handbook is kept by the offices of {town}. " + writer.fill(_INTRODUCTION, subject)
    parts = [introduction]
    for heading, text in chosen:
        above, _, below = heading.partition(" › ")
        parts.append(f"# {above}\n\n## {below}\n\n{text}")
    return ("\n\n".join(parts) + "\n").encode()


def _blocks(content: bytes) -> list[Block]:
    """As the worker reads an upload, so that indexing it again finds the same passages."""
    with tempfile.NamedTemporaryFile(suffix=".md") as file:
        file.write(content)
        file.flush()
        found = read_document(Path(file.name), DocumentFormat.MARKDOWN, _MAX_CHARACTERS)
    return [Block(text=block.text, page=block.page, heading=block.heading) for block in found]


class DocumentSeeder:
    def __init__(self, pool: asyncpg.Pool, storage: Storage, collections: Collections) -> None:
        self._pool = pool
        self._storage = storage
        self._collections = collections

    async def add_bots(self, owners: Sequence[UUID], ids: Ids, count: int, now: datetime) -> list[UUID]:
        """Public ones: whoever signs in can ask them."""
        bots = [ids.at(now) for _ in range(count)]
        rows = [
            (
                bot_id,
                owners[number % len(owners)],
                f"{words.SUBJECTS[number].name.capitalize()} desk",
                "Answers from the handbooks of the towns.",
                "You answer briefly, and from the handbooks alone.",
            )
            for number, bot_id in enumerate(bots)
        ]
        await self._pool.executemany(_ADD_BOT, rows)
        return bots

    async def add(self, documents: Sequence[SeededDocument], bar: Bar) -> DocumentsSeeded:
        """Bytes, then rows with their jobs, then passages. `bar` counts passages. Raises `StorageUnavailable`."""
        await self._store(documents)
        await self._insert(documents)
        waiting = list(documents)
        indexed: list[IndexedDocument] = []
        reason: str | None = None
        is_agent_away = False

        async def take() -> None:
            nonlocal reason, is_agent_away
            while waiting and reason is None:
                document = waiting.pop(0)
                try:
                    indexed.append(await self._index(document, bar))
                except (AgentUnavailable, AgentBrokeOff, AgentRefused) as problem:
                    reason = problem.detail
                    is_agent_away = isinstance(problem, AgentUnavailable)
                    waiting.append(document)

        # The first alone: what two embed at the same time is embedded twice.
        first, rest = waiting[:1], waiting[1:]
        waiting[:] = first
        await take()
        waiting.extend(rest)
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(take())
        await self._pool.execute(_LEAVE, [one.id for one in waiting], [one.job_id for one in waiting])
        return DocumentsSeeded(
            ready=len(indexed),
            passages=sum(one.chunk_count for one in indexed),
            embedded=sum(one.embedded for one in indexed),
            waiting=len(waiting),
            reason=reason,
            is_agent_away=is_agent_away,
        )

    async def _store(self, documents: Sequence[SeededDocument]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "document"
            for document in documents:
                await asyncio.to_thread(path.write_bytes, document.content)
                await self._storage.put(storage_key(document.bot_id, document.id), path)

    async def _insert(self, documents: Sequence[SeededDocument]) -> None:
        payload = orjson.dumps({"version": _VERSION}).decode()
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                _ADD_DOCUMENT,
                [
                    (
                        one.id,
                        one.bot_id,
                        one.name,
                        DocumentFormat.MARKDOWN.content_type,
                        len(one.content),
                        hashlib.sha256(one.content).digest(),
                        storage_key(one.bot_id, one.id),
                        _VERSION,
                        len(one.blocks),
                    )
                    for one in documents
                ],
            )
            await connection.executemany(_ADD_JOB, [(one.job_id, one.id, payload) for one in documents])

    async def _index(self, document: SeededDocument, bar: Bar) -> IndexedDocument:
        put = DocumentPut(name=document.name, version=_VERSION, blocks=document.blocks)
        told = 0
        async with aclosing(self._collections.put(document.bot_id, document.id, put)) as events:
            async for event in events:
                match event:
                    case IndexProgress():
                        bar.update(max(event.done - told, 0))
                        told = max(event.done, told)
                    case IndexedDocument():
                        bar.update(max(event.chunk_count - told, 0))
                        await self._pool.execute(_FINISH, document.id, document.job_id, _VERSION, event.chunk_count)
                        return event
                    case IndexFailed():
                        raise AgentRefused(event.problem)
                    case _:
                        assert_never(event)
        raise AgentBrokeOff
