"""Work for later: there once its commit is, one worker at a time, and no word from a worker that lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.outbox import Job, Jobs, Outbox, hold, settle
from shared.logging import request_id_var
from shared.settings import Environment
from tests.stores import Database as DatabaseOfTests

LEASE = 10.0
TOPIC = "test.topic"


@pytest.fixture
async def db(clean_database: DatabaseOfTests) -> AsyncIterator[Database]:
    url = SecretStr(clean_database.api_url)
    database = await Database.open(ApiSettings(environment=Environment.TEST, database_url=url))
    yield database
    await database.close()


async def put(db: Database, topic: str = TOPIC, payload: dict[str, Any] | None = None) -> UUID:
    async with db.unit() as work:
        return await Outbox(work).put(topic, uuid4(), payload)


async def stored(db: Database) -> list[asyncpg.Record]:
    return await db.fetch_rows("SELECT * FROM chat.outbox ORDER BY available_at, id")


async def claimed(db: Database, entry_id: UUID, owner: str = "worker-1", lease: float = LEASE) -> Job:
    job = await Jobs(db).claim(entry_id, owner, lease)
    assert job is not None
    return job


async def settled(db: Database, job: Job) -> bool:
    async with db.unit() as work:
        return await settle(work, job)


async def held(db: Database, job: Job) -> bool:
    async with db.unit() as work:
        return await hold(work, job)


async def expire(db: Database) -> None:
    await db.fetch_rows("UPDATE chat.outbox SET available_at = now() - interval '1 second'")


async def test_an_entry_is_due_once_its_commit_is_there(db: Database) -> None:
    subject = uuid4()
    before = request_id_var.set("trace-1")
    try:
        async with db.unit() as work:
            entry_id = await Outbox(work).put(TOPIC, subject, {"version": 3})
            assert await Jobs(db).due([TOPIC], 10) == []
    finally:
        request_id_var.reset(before)
    (due,) = await Jobs(db).due([TOPIC], 10)
    assert (due.id, due.attempt) == (entry_id, 0)
    job = await claimed(db, entry_id)
    assert (job.topic, job.subject_id, job.payload) == (TOPIC, subject, {"version": 3})
    assert (job.request_id, job.attempt, job.last_problem) == ("trace-1", 1, None)


async def test_a_unit_that_fails_leaves_no_work(db: Database) -> None:
    async def put_and_fail() -> None:
        async with db.unit() as work:
            await Outbox(work).put(TOPIC, uuid4())
            raise LookupError

    with pytest.raises(LookupError):
        await put_and_fail()
    assert await stored(db) == []


async def test_the_oldest_come_first_and_no_more_than_asked_for(db: Database) -> None:
    """One that was tried before keeps its place."""
    entries = [await put(db) for _ in range(4)]
    assert await Jobs(db).claim(entries[0], "worker-1", 0) is not None
    assert [due.id for due in await Jobs(db).due([TOPIC], 3)] == entries[:3]


async def test_only_the_topics_that_are_asked_for_are_due(db: Database) -> None:
    other = await put(db, "other.topic")
    third = await put(db, "third.topic")
    await put(db)
    due = await Jobs(db).due(["other.topic", "third.topic"], 10)
    assert {entry.id for entry in due} == {other, third}
    assert await Jobs(db).due([], 10) == []


async def test_a_claimed_entry_is_nobody_elses_until_its_lease_runs_out(db: Database) -> None:
    entry_id = await put(db)
    before = datetime.now(UTC)
    await claimed(db, entry_id)
    assert await Jobs(db).due([TOPIC], 10) == []
    assert await Jobs(db).claim(entry_id, "worker-2", LEASE) is None
    (row,) = await stored(db)
    lease = row["available_at"] - before
    assert timedelta(seconds=LEASE - 1) < lease < timedelta(seconds=LEASE + 1)
    await expire(db)
    assert [due.attempt for due in await Jobs(db).due([TOPIC], 10)] == [1]
    assert (await claimed(db, entry_id, "worker-2")).attempt == 2


async def test_of_many_who_claim_at_once_one_gets_it(db: Database) -> None:
    entry_id = await put(db)
    claims = await asyncio.gather(*(Jobs(db).claim(entry_id, f"worker-{n}", LEASE) for n in range(20)))
    (job,) = [claim for claim in claims if claim is not None]
    (row,) = await stored(db)
    assert (row["lease_owner"], row["attempt"]) == (job.owner, 1)


async def test_a_heartbeat_moves_the_lease_on(db: Database) -> None:
    job = await claimed(db, await put(db))
    (before,) = await stored(db)
    await asyncio.sleep(0.02)
    assert await Jobs(db).extend(job)
    (after,) = await stored(db)
    assert after["available_at"] > before["available_at"]


async def test_a_retry_waits_and_remembers_why(db: Database) -> None:
    job = await claimed(db, await put(db, payload={"version": 3}))
    assert await Jobs(db).retry(job, 60, {"code": "agent-unavailable"})
    (row,) = await stored(db)
    assert row["lease_owner"] is None
    assert timedelta(seconds=50) < row["available_at"] - datetime.now(UTC) < timedelta(seconds=61)
    assert await Jobs(db).due([TOPIC], 10) == []
    await expire(db)
    again = await claimed(db, job.id)
    assert (again.attempt, again.last_problem) == (2, {"code": "agent-unavailable"})
    assert again.payload["version"] == 3


async def test_giving_back_at_once_makes_it_due_at_once(db: Database) -> None:
    job = await claimed(db, await put(db))
    assert await Jobs(db).retry(job, 0)
    assert [due.id for due in await Jobs(db).due([TOPIC], 10)] == [job.id]


async def test_settling_takes_the_entry_out_with_what_is_written(db: Database) -> None:
    job = await claimed(db, await put(db))
    other = await put(db)
    assert await settled(db, job)
    assert [row["id"] for row in await stored(db)] == [other]
    assert not await settled(db, job), "once only"


async def test_a_unit_that_settles_and_fails_leaves_the_job(db: Database) -> None:
    job = await claimed(db, await put(db))

    async def settle_and_fail() -> None:
        async with db.unit() as work:
            assert await settle(work, job)
            raise LookupError

    with pytest.raises(LookupError):
        await settle_and_fail()
    assert await held(db, job)


@pytest.mark.parametrize("same_owner", [False, True])
async def test_who_lost_the_lease_can_write_nothing(db: Database, same_owner: bool) -> None:
    """A process was frozen for longer than its lease: meanwhile its job was claimed again."""
    frozen = await claimed(db, await put(db), "worker-1")
    await expire(db)
    current = await claimed(db, frozen.id, "worker-1" if same_owner else "worker-2")
    assert not await Jobs(db).extend(frozen)
    assert not await Jobs(db).retry(frozen, 0)
    assert not await held(db, frozen)
    assert not await settled(db, frozen)
    assert await held(db, current)
    assert await settled(db, current)


async def test_a_lease_that_ran_out_unnoticed_still_counts(db: Database) -> None:
    """Nobody claimed it in the meantime, so nobody else's work is in danger."""
    job = await claimed(db, await put(db))
    await expire(db)
    assert await Jobs(db).extend(job)
    assert await Jobs(db).due([TOPIC], 10) == []


async def test_nobody_claims_between_the_fence_and_the_write(db: Database) -> None:
    """The lease runs out while its holder writes: who claims waits for that commit, and finds the entry gone."""
    job = await claimed(db, await put(db))
    await expire(db)
    async with db.unit() as work:
        assert await hold(work, job)
        claiming = asyncio.create_task(Jobs(db).claim(job.id, "worker-2", LEASE))
        await asyncio.sleep(0.1)
        assert not claiming.done()
        assert await settle(work, job)
    assert await claiming is None
    assert await stored(db) == []


async def test_the_frozen_ones_write_waits_for_the_claim_and_fails(db: Database) -> None:
    """The other way round: the new claim is about to commit when the old holder reaches the fence."""
    job = await claimed(db, await put(db))
    await expire(db)
    async with db.unit() as other:
        claim = "UPDATE chat.outbox SET attempt = attempt + 1, lease_owner = 'worker-2' WHERE id = :id"
        await other.execute(text(claim), {"id": job.id})
        late = [asyncio.create_task(settled(db, job)), asyncio.create_task(held(db, job))]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in late)
    assert await asyncio.gather(*late) == [False, False]
    assert len(await stored(db)) == 1
