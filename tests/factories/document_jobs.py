"""The worker's jobs about documents, with a real database and storage, and a scripted agent and extraction."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from chat_api.clients.connection import AgentRefused
from chat_api.config import ApiSettings
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.storage import storage_key
from chat_api.kit.db import Database
from chat_api.kit.jobs import JobRunner
from chat_api.kit.models import new_id
from chat_api.kit.outbox import Jobs, Outbox
from chat_api.kit.storage import Storage, local_storage
from chat_api.worker import INDEXING_QUEUE, PURGING_QUEUE, job_runners
from shared.contracts.knowledge import (
    Block,
    ChunkPage,
    DocumentPut,
    IndexedDocument,
    IndexEvent,
    IndexFailed,
    IndexProgress,
    RegenerationStep,
    SearchAnswer,
    SearchRequest,
)
from shared.logging import request_id_var
from shared.problems import ProblemDocument
from shared.settings import Environment

MARKDOWN = "text/markdown"


class ParagraphExtraction:
    """Each paragraph of the file is a block. `failures` are raised first, one a call."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.formats: list[DocumentFormat] = []
        self.paths: list[Path] = []

    async def extract(self, path: Path, document_format: DocumentFormat) -> list[Block]:
        self.formats.append(document_format)
        self.paths.append(path)
        content = path.read_text()  # noqa: ASYNC240 - a few bytes of a test
        if self.failures:
            raise self.failures.pop(0)
        return [Block(text=paragraph) for paragraph in content.split("\n\n")]

    async def aclose(self) -> None: ...


class ScriptedIndex:
    """The agent's collections: a passage for each block, versions and tombstones as the contract has them.

    `failures` are raised by the next calls, or, where they are events, end the next put. `on_put` runs in the middle
    of every put, after its first progress.
    """

    def __init__(self) -> None:
        self.documents: dict[UUID, DocumentPut] = {}
        self.tombstones: dict[UUID, int] = {}
        self.deleted_collections: set[UUID] = set()
        self.puts: list[DocumentPut] = []
        self.request_ids: list[str | None] = []
        self.failures: list[Exception | IndexFailed] = []
        self.on_put: Callable[[], Awaitable[None]] | None = None
        self.closed_puts = 0

    async def put(
        self, collection_id: UUID, document_id: UUID, document: DocumentPut
    ) -> AsyncGenerator[IndexEvent, None]:
        self.puts.append(document)
        self.request_ids.append(request_id_var.get())
        total = len(document.blocks)
        try:
            failure = self.failures.pop(0) if self.failures else None
            if isinstance(failure, Exception):
                raise failure
            for done in range(total):
                yield IndexProgress(done=done, total=total)
                if done == 0 and self.on_put is not None:
                    await self.on_put()
            if failure is not None:
                yield failure
                return
            if collection_id in self.deleted_collections or self.tombstones.get(document_id, 0) >= document.version:
                raise refusal(409, "stale-version")
            self.documents[document_id] = document
            yield IndexedDocument(document_id=document_id, version=document.version, chunk_count=total, embedded=total)
        finally:
            self.closed_puts += 1

    async def delete_document(self, collection_id: UUID, document_id: UUID, *, version: int) -> None:
        self._fail()
        self.tombstones[document_id] = version
        self.documents.pop(document_id, None)

    async def delete_collection(self, collection_id: UUID) -> None:
        self._fail()
        self.deleted_collections.add(collection_id)
        self.documents.clear()

    async def search(self, request: SearchRequest) -> SearchAnswer:
        raise NotImplementedError

    async def chunks(self, collection_id: UUID, document_id: UUID, *, limit: int, cursor: str | None) -> ChunkPage:
        raise NotImplementedError

    async def regenerate(self) -> RegenerationStep:
        raise NotImplementedError

    def _fail(self) -> None:
        if self.failures:
            failure = self.failures.pop(0)
            assert isinstance(failure, Exception)
            raise failure


def refusal(status: int, code: str, detail: str = "As the test wants it.") -> AgentRefused:
    return AgentRefused(ProblemDocument(title=code, status=status, detail=detail, code=code))


class DocumentJobs:
    """Somebody's bot, its documents, and the worker that does what is due."""

    def __init__(self, database: Database, settings: ApiSettings, folder: Path) -> None:
        self.database = database
        self.storage: Storage = local_storage(folder)
        self.extraction = ParagraphExtraction()
        self.index = ScriptedIndex()
        self.settings = settings
        self.bot_id = new_id()
        self._user_id = new_id()

    async def prepare(self) -> None:
        await self.sql(
            "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, 'a@b.cd', 'ann', 'none')",
            self._user_id,
        )
        await self.sql(
            "INSERT INTO chat.bots (id, owner_id, name) VALUES ($1, $2, 'Guide')", self.bot_id, self._user_id
        )

    async def sql(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        return await self.database.fetch_rows(statement, *args)

    async def upload(self, text: str = "One.\n\nTwo.\n\nThree.", *, request_id: str | None = None) -> UUID:
        """A document as an upload leaves it: bytes, row and work for later."""
        document_id = new_id()
        source = self.settings.data_dir / str(document_id)
        source.write_text(text)
        key = storage_key(self.bot_id, document_id)
        await self.storage.put(key, source)
        await self.sql(
            "INSERT INTO chat.documents (id, bot_id, uploaded_by, name, content_type, size_bytes, sha256, storage_key)"
            " VALUES ($1, $2, $3, 'harbour.md', $4, $5, $6, $7)",
            document_id,
            self.bot_id,
            self._user_id,
            MARKDOWN,
            len(text),
            hashlib.sha256(document_id.bytes).digest(),
            key,
        )
        await self.want("document.index", document_id, {"version": 1}, request_id=request_id)
        return document_id

    async def want(
        self, topic: str, subject_id: UUID, payload: dict[str, Any] | None = None, *, request_id: str | None = None
    ) -> UUID:
        before = request_id_var.set(request_id)
        try:
            async with self.database.unit() as db:
                return await Outbox(db).put(topic, subject_id, payload)
        finally:
            request_id_var.reset(before)

    async def delete(self, document_id: UUID) -> None:
        await self.sql("UPDATE chat.documents SET deleted_at = now() WHERE id = $1", document_id)
        await self.want("document.purge", document_id)

    async def reindex(self, document_id: UUID) -> None:
        (row,) = await self.sql(
            "UPDATE chat.documents SET version = version + 1, status = 'pending' WHERE id = $1 RETURNING version",
            document_id,
        )
        await self.want("document.index", document_id, {"version": row["version"]})

    def runners(self, **fields: Any) -> dict[str, JobRunner]:
        """What one worker process has."""
        settings = self.settings.model_copy(update=fields)
        return job_runners(settings, self.database, self.storage, self.extraction, self.index)

    def indexer(self, **fields: Any) -> JobRunner:
        return self.runners(**fields)[INDEXING_QUEUE]

    def purger(self, **fields: Any) -> JobRunner:
        return self.runners(**fields)[PURGING_QUEUE]

    async def work(self, *runners: JobRunner) -> None:
        """Do everything that is due, one after the other, until nothing is. What waits is not waited for."""
        runners = runners or tuple(self.runners().values())
        worked = True
        while worked:
            worked = False
            for runner in runners:
                for entry in await Jobs(self.database).due(runner.topics, 10):
                    worked = True
                    await runner.run(entry.id)

    async def make_due(self) -> None:
        await self.sql("UPDATE chat.outbox SET available_at = now()")

    async def outbox(self) -> list[asyncpg.Record]:
        return await self.sql("SELECT * FROM chat.outbox ORDER BY id")

    async def document(self, document_id: UUID) -> asyncpg.Record:
        (row,) = await self.sql("SELECT * FROM chat.documents WHERE id = $1", document_id)
        return row

    async def stored_keys(self) -> set[str]:
        return {one.key async for batch in self.storage.objects() for one in batch}


@asynccontextmanager
async def document_jobs(database_url: str, folder: Path) -> AsyncIterator[DocumentJobs]:
    settings = ApiSettings(environment=Environment.TEST, database_url=SecretStr(database_url), data_dir=folder)
    database = await Database.open(settings)
    try:
        jobs = DocumentJobs(database, settings, folder / "documents")
        await jobs.prepare()
        yield jobs
    finally:
        await database.close()
