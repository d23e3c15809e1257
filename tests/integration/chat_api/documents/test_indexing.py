"""Indexing a document: what ends it, what is tried again, and who may write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.errors import DocumentEncrypted
from chat_api.documents.extraction.extractor import ExtractionUnavailable
from chat_api.kit.outbox import Jobs
from chat_api.kit.storage import StorageUnavailable
from shared.contracts.knowledge import IndexFailed
from shared.problems import Problem, ProblemDocument
from tests.factories.document_jobs import DocumentJobs, document_jobs, refusal
from tests.stores import Database


@pytest.fixture
async def jobs(clean_database: Database, tmp_path: Path) -> AsyncIterator[DocumentJobs]:
    async with document_jobs(clean_database.api_url, tmp_path) as jobs:
        yield jobs


def said(failure: Problem | IndexFailed) -> tuple[str, str]:
    document = failure.problem if isinstance(failure, IndexFailed) else failure.document()
    return document.code, document.detail


def problem(status: int, code: str) -> ProblemDocument:
    return ProblemDocument(title=code, status=status, detail=f"It says {code}.", code=code)


async def test_a_document_becomes_ready_with_all_its_passages(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload("One.\n\nTwo.\n\nThree.", request_id="trace-1")
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["chunk_count"], row["error"]) == ("ready", 3, None)
    assert (row["progress_done"], row["progress_total"]) == (3, 3)
    assert row["indexed_at"] is not None
    assert await jobs.outbox() == []
    (put,) = jobs.index.puts
    assert (put.name, put.version, [block.text for block in put.blocks]) == (
        "harbour.md",
        1,
        ["One.", "Two.", "Three."],
    )
    assert jobs.index.request_ids == ["trace-1"]
    assert jobs.extraction.formats == [DocumentFormat.MARKDOWN]
    assert not jobs.extraction.paths[0].exists(), "no copy is left behind"


async def test_progress_is_told_while_it_runs(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    seen: list[tuple[str, int, int]] = []

    async def look() -> None:
        row = await jobs.document(document_id)
        seen.append((row["status"], row["progress_done"], row["progress_total"]))

    jobs.index.on_put = look
    await jobs.work()
    assert seen == [("processing", 0, 3)]


@pytest.mark.parametrize(
    "failure",
    [
        AgentUnavailable(),
        AgentBrokeOff(),
        refusal(429, "too-many"),
        refusal(500, "internal-error"),
        refusal(401, "not-authenticated"),
        IndexFailed(problem=problem(503, "store-away"), retry_after=2),
        IndexFailed(problem=problem(409, "busy"), retry_after=1),
        IndexFailed(problem=problem(500, "internal-error")),
    ],
    ids=lambda failure: f"{type(failure).__name__}-{said(failure)[0]}",
)
async def test_what_may_heal_is_tried_again_and_tells_why_it_waits(
    jobs: DocumentJobs, failure: Problem | IndexFailed
) -> None:
    document_id = await jobs.upload()
    jobs.index.failures.append(failure)
    await jobs.work()
    row = await jobs.document(document_id)
    assert row["status"] == "pending"
    assert (row["error"]["code"], row["error"]["detail"]) == said(failure)
    (entry,) = await jobs.outbox()
    assert (entry["attempt"], entry["lease_owner"]) == (1, None)
    await jobs.make_due()
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["chunk_count"], row["error"]) == ("ready", 3, None)


async def test_our_own_troubles_are_tried_again_too(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    jobs.extraction.failures += [ExtractionUnavailable(), StorageUnavailable()]
    for code in ("extraction-unavailable", "storage-unavailable"):
        await jobs.work()
        row = await jobs.document(document_id)
        assert (row["status"], row["error"]["code"]) == ("pending", code)
        await jobs.make_due()
    await jobs.work()
    assert (await jobs.document(document_id))["status"] == "ready"


async def test_after_all_attempts_it_fails_with_the_last_reason(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload(request_id="trace-1")
    runner = jobs.indexer(job_attempts=3)
    jobs.index.failures += [AgentBrokeOff(), AgentBrokeOff(), AgentUnavailable("It is being repaired.")]
    for _ in range(3):
        await jobs.make_due()
        await jobs.work(runner)
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "indexing-gave-up")
    assert "It is being repaired." in row["error"]["detail"]
    assert "3 attempts" in row["error"]["detail"]
    assert row["error"]["request_id"] == "trace-1"
    assert await jobs.outbox() == []


async def test_a_document_that_ends_its_worker_each_time_fails(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    for attempt in range(jobs.settings.job_attempts):
        job = await Jobs(jobs.database).claim((await jobs.outbox())[0]["id"], f"killed-{attempt}", 0)
        assert job is not None
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "indexing-gave-up")
    assert jobs.index.puts == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (refusal(409, "embedding-model-changed"), "embedding-model-changed"),
        (refusal(413, "payload-too-large"), "payload-too-large"),
        (refusal(422, "validation-failed"), "validation-failed"),
        (IndexFailed(problem=problem(422, "nothing-to-search")), "nothing-to-search"),
    ],
    ids=["409", "413", "422", "event"],
)
async def test_a_refusal_of_the_document_is_final(
    jobs: DocumentJobs, failure: Problem | IndexFailed, code: str
) -> None:
    document_id = await jobs.upload()
    jobs.index.failures.append(failure)
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", code)
    assert await jobs.outbox() == []


async def test_what_cannot_be_read_fails_at_once(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload(request_id="trace-1")
    jobs.extraction.failures.append(DocumentEncrypted())
    await jobs.work()
    row = await jobs.document(document_id)
    assert row["status"] == "failed"
    assert row["error"] == DocumentEncrypted().as_json("trace-1")
    assert jobs.index.puts == []
    assert await jobs.outbox() == []


async def test_bytes_that_are_gone_are_told(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    await jobs.storage.delete((await jobs.document(document_id))["storage_key"])
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "document-bytes-missing")


async def test_one_that_was_deleted_before_is_not_indexed(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    await jobs.sql("UPDATE chat.documents SET deleted_at = now() WHERE id = $1", document_id)
    await jobs.work()
    assert jobs.index.puts == []
    assert await jobs.outbox() == []
    assert (await jobs.document(document_id))["status"] == "pending"


async def test_one_whose_bot_was_deleted_before_is_not_indexed(jobs: DocumentJobs) -> None:
    await jobs.upload()
    await jobs.sql("UPDATE chat.bots SET deleted_at = now()")
    await jobs.work()
    assert jobs.index.puts == []
    assert await jobs.outbox() == []


async def test_only_the_latest_version_is_indexed(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    await jobs.reindex(document_id)
    await jobs.work()
    assert [put.version for put in jobs.index.puts] == [2]
    row = await jobs.document(document_id)
    assert (row["status"], row["version"]) == ("ready", 2)
    assert await jobs.outbox() == []


async def test_a_wish_for_a_newer_version_while_it_runs_is_not_answered_by_the_older(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()

    async def wish() -> None:
        jobs.index.on_put = None
        await jobs.reindex(document_id)

    jobs.index.on_put = wish
    (entry,) = await jobs.outbox()
    await jobs.indexer().run(entry["id"])
    row = await jobs.document(document_id)
    assert (row["status"], row["version"], row["indexed_at"]) == ("pending", 2, None)
    await jobs.work()
    assert (await jobs.document(document_id))["status"] == "ready"
    assert jobs.index.documents[document_id].version == 2


async def test_one_that_is_deleted_while_it_runs_ends_gone(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()

    async def delete() -> None:
        await jobs.delete(document_id)

    jobs.index.on_put = delete
    await jobs.work()
    assert await jobs.sql("SELECT * FROM chat.documents") == []
    assert jobs.index.documents == {}
    assert await jobs.stored_keys() == set()
    assert await jobs.outbox() == []


async def test_one_that_is_purged_while_it_runs_ends_gone(jobs: DocumentJobs) -> None:
    """The purge overtakes: the put that is under way must come too late."""
    document_id = await jobs.upload()
    purging = jobs.purger()

    async def purge() -> None:
        await jobs.delete(document_id)
        await jobs.work(purging)

    jobs.index.on_put = purge
    (entry,) = await jobs.outbox()
    await jobs.indexer().run(entry["id"])
    assert await jobs.sql("SELECT * FROM chat.documents") == []
    assert jobs.index.documents == {}
    assert await jobs.outbox() == []


async def test_stale_for_the_agent_and_wanted_here_is_told(jobs: DocumentJobs) -> None:
    """Of a database that was put back from a copy: only a person can decide, by indexing it again."""
    document_id = await jobs.upload()
    jobs.index.failures.append(refusal(409, "stale-version"))
    await jobs.work()
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "stale-version")


async def test_a_frozen_worker_changes_nothing_when_it_thaws(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    frozen, thawed = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        jobs.index.on_put = None
        frozen.set()
        await thawed.wait()

    jobs.index.on_put = freeze
    (entry,) = await jobs.outbox()
    late = asyncio.create_task(jobs.indexer(job_heartbeat_seconds=60).run(entry["id"]))
    await asyncio.wait_for(frozen.wait(), 30)
    await jobs.make_due()
    jobs.index.failures.append(refusal(422, "validation-failed"))
    await jobs.work()
    assert (await jobs.document(document_id))["status"] == "failed"
    thawed.set()
    await asyncio.wait_for(late, 30)
    row = await jobs.document(document_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "validation-failed"), "what was decided stands"


async def test_stopping_closes_the_put_and_gives_the_job_back(jobs: DocumentJobs) -> None:
    document_id = await jobs.upload()
    reached = asyncio.Event()

    async def for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    jobs.index.on_put = for_ever
    runner = jobs.indexer()
    (entry,) = await jobs.outbox()
    running = asyncio.create_task(runner.run(entry["id"]))
    await asyncio.wait_for(reached.wait(), 30)
    await runner.stop(0.05)
    await asyncio.wait({running})
    assert jobs.index.closed_puts == 1
    assert not jobs.extraction.paths[0].exists()
    jobs.index.on_put = None
    await jobs.work()
    assert (await jobs.document(document_id))["status"] == "ready"
