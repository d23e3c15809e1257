"""The job that makes passages of a document: its bytes from storage, its text, then the agent.

It may be cut short anywhere and begun again: the agent takes the same document twice, knows the vectors that it made
before, and changes its passages in one step. What is committed here is fenced by the job.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import assert_never

from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.config import ApiSettings
from chat_api.documents.errors import DocumentBytesMissing
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.extractor import Extraction, ExtractionUnavailable
from chat_api.documents.job_repository import DocumentJobRepository, WantedDocument
from chat_api.kit.db import Database
from chat_api.kit.jobs import Limit, Postponed
from chat_api.kit.outbox import Job, LeaseLost, hold, settle
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.storage import BytesMissing, Storage, StorageUnavailable
from shared.contracts.knowledge import Block, DocumentPut, IndexedDocument, IndexFailed, IndexProgress
from shared.logging import get_logger
from shared.problems import Problem, ProblemDocument

log = get_logger("indexing")

PROGRESS_SECONDS = 0.5
"""Progress is written this often at most: people look, and nobody reads faster."""

_FORMATS = {one.content_type: one for one in DocumentFormat}
_OURS_TO_MEND = frozenset({401, 403})
"""The agent does not believe who we are: the document is not to blame, and its owner cannot help it."""


class IndexingGaveUp(Problem):
    """What was in the way did not pass in all the attempts there are."""

    status = 503
    code = "indexing-gave-up"
    title = "Indexing was given up"

    @classmethod
    def after(cls, attempts: int, last: ProblemDocument) -> IndexingGaveUp:
        return cls(f"After {attempts} attempts the last reason was: {last.detail} Index the document again later.")


class IndexDocument:
    """Handles `document.index`."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        extraction: Extraction,
        collections: Collections,
        settings: ApiSettings,
    ) -> None:
        self._database = database
        self._storage = storage
        self._extraction = extraction
        self._collections = collections
        self._attempts = settings.job_attempts

    @property
    def limit(self) -> Limit:
        return Limit(self._attempts, self.give_up)

    async def run(self, job: Job) -> None:
        document = await self._begin(job)
        if document is None:
            return
        try:
            indexed = await self._index(job, document)
        except Postponed as postponed:
            await self._note(job, document, postponed.problem)
            raise
        except (LeaseLost, asyncio.CancelledError):
            raise
        except Problem as problem:
            await self._fail(job, document.version, problem.document(job.request_id))
        else:
            await self._finish(job, document, indexed)

    async def give_up(self, job: Job, problem: ProblemDocument) -> None:
        gave_up = IndexingGaveUp.after(job.attempt, problem)
        await self._fail(job, _version(job), gave_up.document(job.request_id))

    async def _index(self, job: Job, document: WantedDocument) -> IndexedDocument:
        """Raises `Postponed`, or the problem that the document fails with."""
        blocks = await self._blocks(document)
        put = DocumentPut(name=document.name, version=document.version, blocks=blocks)
        try:
            async with aclosing(self._collections.put(document.bot_id, document.id, put)) as events:
                told_at = -PROGRESS_SECONDS
                async for event in events:
                    match event:
                        case IndexProgress():
                            if time.monotonic() - told_at >= PROGRESS_SECONDS:
                                await self._tell_progress(job, document, event)
                                told_at = time.monotonic()
                        case IndexedDocument():
                            return event
                        case IndexFailed():
                            raise _refused(AgentRefused(event.problem), event.retry_after)
                        case _:
                            assert_never(event)
        except (AgentUnavailable, AgentBrokeOff) as problem:
            raise Postponed(problem) from None
        except AgentRefused as refusal:
            raise _refused(refusal) from None
        raise Postponed(AgentBrokeOff())

    async def _blocks(self, document: WantedDocument) -> list[Block]:
        async with scratch_folder() as folder:
            path = folder / "document"
            try:
                await self._storage.download(document.storage_key, path)
                return await self._extraction.extract(path, _FORMATS[document.content_type])
            except BytesMissing:
                raise DocumentBytesMissing from None
            except (StorageUnavailable, ExtractionUnavailable) as problem:
                raise Postponed(problem) from None

    # -- what is written ----------------------------------------------------------------------------------

    async def _begin(self, job: Job) -> WantedDocument | None:
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            document = await DocumentJobRepository(db).begin(job.subject_id, _version(job))
            if document is None:
                await settle(db, job)
                log.info("document.not_wanted", document_id=str(job.subject_id), version=_version(job))
        return document

    async def _tell_progress(self, job: Job, document: WantedDocument, progress: IndexProgress) -> None:
        """Raises `LeaseLost` also where nobody wants this version any more: there is no reason to go on with it."""
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            wanted = await DocumentJobRepository(db).note_progress(
                document.id, document.version, progress.done, progress.total
            )
            if not wanted:
                await settle(db, job)
        if not wanted:
            raise LeaseLost

    async def _finish(self, job: Job, document: WantedDocument, indexed: IndexedDocument) -> None:
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            wanted = await DocumentJobRepository(db).finish(document.id, document.version, indexed.chunk_count)
        log.info(
            "document.indexed" if wanted else "document.not_wanted",
            document_id=str(document.id),
            version=document.version,
            chunks=indexed.chunk_count,
            embedded=indexed.embedded,
        )

    async def _note(self, job: Job, document: WantedDocument, problem: Problem) -> None:
        """Tell what is in the way while the document waits for its next attempt."""
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            error = problem.as_json(job.request_id)
            await DocumentJobRepository(db).postpone(document.id, document.version, error)

    async def _fail(self, job: Job, version: int, problem: ProblemDocument) -> None:
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            error = problem.model_dump(exclude_none=True)
            wanted = await DocumentJobRepository(db).fail(job.subject_id, version, error)
        log.warning(
            "document.failed" if wanted else "document.not_wanted",
            document_id=str(job.subject_id),
            version=version,
            code=problem.code,
        )


def _version(job: Job) -> int:
    return int(job.payload["version"])


def _refused(refusal: AgentRefused, retry_after: int | None = None) -> Postponed | AgentRefused:
    """Whether a refusal may pass. `stale-version` and the like fail nothing where the document is not wanted."""
    problem = refusal.problem
    may_pass = problem.status >= 500 or problem.status == 429 or problem.status in _OURS_TO_MEND
    if retry_after is not None or may_pass:
        return Postponed(refusal, after=retry_after or 0)
    return refusal
