"""Deleted documents and bots: their passages, bytes and rows go, however often it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from tests.factories.document_jobs import DocumentJobs, document_jobs, refusal
from tests.stores import Database


@pytest.fixture
async def jobs(clean_database: Database, tmp_path: Path) -> AsyncIterator[DocumentJobs]:
    async with document_jobs(clean_database.api_url, tmp_path) as jobs:
        yield jobs


async def indexed(jobs: DocumentJobs) -> UUID:
    document_id = await jobs.upload()
    await jobs.work()
    return document_id


async def document_ids(jobs: DocumentJobs) -> set[UUID]:
    return {row["id"] for row in await jobs.sql("SELECT id FROM chat.documents")}


async def delete_bot(jobs: DocumentJobs) -> None:
    await jobs.sql("UPDATE chat.bots SET deleted_at = now()")
    await jobs.want("bot.purge", jobs.bot_id)


async def test_a_deleted_document_leaves_nothing(jobs: DocumentJobs) -> None:
    kept, gone = await indexed(jobs), await indexed(jobs)
    await jobs.sql("UPDATE chat.documents SET version = 7 WHERE id = $1", gone)
    await jobs.delete(gone)
    await jobs.work()
    assert await document_ids(jobs) == {kept}
    assert set(jobs.index.documents) == {kept}
    assert jobs.index.tombstones == {gone: 7}
    assert await jobs.stored_keys() == {f"{jobs.bot_id}/{kept}"}
    assert await jobs.outbox() == []


async def test_purging_twice_is_the_same_as_once(jobs: DocumentJobs) -> None:
    gone = await indexed(jobs)
    await jobs.delete(gone)
    await jobs.want("document.purge", gone)
    await jobs.work()
    assert await document_ids(jobs) == set()
    assert await jobs.outbox() == []


async def test_a_document_that_is_not_deleted_is_not_purged(jobs: DocumentJobs) -> None:
    kept = await indexed(jobs)
    await jobs.want("document.purge", kept)
    await jobs.work()
    assert await document_ids(jobs) == {kept}
    assert set(jobs.index.documents) == {kept}
    assert await jobs.outbox() == []


@pytest.mark.parametrize(
    "failure",
    [AgentUnavailable(), AgentBrokeOff(), refusal(401, "not-authenticated"), refusal(500, "internal-error")],
    ids=["away", "broke off", "401", "500"],
)
async def test_while_the_agent_is_away_the_purge_waits(jobs: DocumentJobs, failure: Exception) -> None:
    gone = await indexed(jobs)
    await jobs.delete(gone)
    await jobs.sql("UPDATE chat.outbox SET attempt = 500")
    jobs.index.failures.append(failure)
    await jobs.work()
    assert await document_ids(jobs) == {gone}
    assert await jobs.stored_keys() != set(), "the bytes go after the passages"
    (entry,) = await jobs.outbox()
    assert 50 < (entry["available_at"] - datetime.now(UTC)).total_seconds() <= 60
    await jobs.make_due()
    await jobs.work()
    assert await document_ids(jobs) == set()
    assert await jobs.stored_keys() == set()


async def test_a_collection_that_is_gone_already_is_no_obstacle(jobs: DocumentJobs) -> None:
    gone = await indexed(jobs)
    await jobs.delete(gone)
    jobs.index.failures.append(refusal(409, "collection-deleted"))
    await jobs.work()
    assert await document_ids(jobs) == set()
    assert await jobs.outbox() == []


async def test_while_the_storage_is_away_the_row_stays(jobs: DocumentJobs, tmp_path: Path) -> None:
    gone = await indexed(jobs)
    await jobs.delete(gone)
    folder = tmp_path / "documents" / str(jobs.bot_id)
    kept_aside = folder.with_name("aside")
    folder.rename(kept_aside)
    folder.write_text("not a folder")
    await jobs.work()
    assert await document_ids(jobs) == {gone}
    folder.unlink()
    kept_aside.rename(folder)
    await jobs.make_due()
    await jobs.work()
    assert await document_ids(jobs) == set()
    assert await jobs.stored_keys() == set()


async def test_a_deleted_bot_leaves_nothing(jobs: DocumentJobs) -> None:
    ready = [await indexed(jobs) for _ in range(3)]
    waiting = await jobs.upload()
    await jobs.sql("UPDATE chat.documents SET deleted_at = now() WHERE id = $1", ready[0])
    await jobs.want("document.purge", ready[0])
    await delete_bot(jobs)
    await jobs.work()
    assert await jobs.sql("SELECT id FROM chat.bots") == []
    assert await document_ids(jobs) == set()
    assert jobs.index.deleted_collections == {jobs.bot_id}
    assert [put for put in jobs.index.puts if put.version != 1] == []
    assert len(jobs.index.puts) == len(ready), f"{waiting} was not indexed any more"
    assert await jobs.stored_keys() == set()
    assert await jobs.outbox() == []


async def test_what_an_upload_left_behind_goes_with_the_bot(jobs: DocumentJobs) -> None:
    forgotten = await jobs.upload()
    await jobs.sql("DELETE FROM chat.documents WHERE id = $1", forgotten)
    assert await jobs.stored_keys() == {f"{jobs.bot_id}/{forgotten}"}
    await delete_bot(jobs)
    await jobs.work()
    assert await jobs.stored_keys() == set()


async def test_a_bot_with_many_documents_goes_in_batches(jobs: DocumentJobs) -> None:
    await jobs.upload()
    await jobs.sql(
        "INSERT INTO chat.documents (id, bot_id, uploaded_by, name, content_type, size_bytes, sha256, storage_key)"
        " SELECT gen_random_uuid(), bot_id, uploaded_by, name, content_type, 1, sha256('x'::bytea || n::text::bytea),"
        " storage_key || n FROM chat.documents, generate_series(1, 230) n"
    )
    await delete_bot(jobs)
    await jobs.work()
    assert await jobs.sql("SELECT id FROM chat.bots") == []
    assert await document_ids(jobs) == set()


async def test_a_bot_waits_for_the_agent(jobs: DocumentJobs) -> None:
    await indexed(jobs)
    await delete_bot(jobs)
    jobs.index.failures.append(AgentUnavailable())
    await jobs.work()
    assert len(await document_ids(jobs)) == 1
    assert len(await jobs.sql("SELECT id FROM chat.bots")) == 1
    await jobs.make_due()
    await jobs.work()
    assert await jobs.sql("SELECT id FROM chat.bots") == []


async def test_a_bot_that_is_not_deleted_keeps_its_row(jobs: DocumentJobs) -> None:
    """Not that anybody asks for it: but a purge must never be the one who decides."""
    await jobs.want("bot.purge", jobs.bot_id)
    kept = await indexed(jobs)
    assert len(await jobs.sql("SELECT id FROM chat.bots")) == 1
    assert await document_ids(jobs) == {kept}
    assert jobs.index.deleted_collections == set()
