"""What happens to a job: done, tried again later, given up, given back, lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.jobs import JobRunner, Limit, Postponed, pause_seconds
from chat_api.kit.outbox import Job, Jobs, LeaseLost, Outbox, settle
from shared.logging import request_id_var
from shared.problems import ProblemDocument, ServiceUnavailable
from shared.settings import Environment
from tests.stores import Database as DatabaseOfTests

TOPIC = "test.topic"
Script = Callable[[Job], Awaitable[None]]


class ScriptedHandler:
    """Runs `script`, and settles the job when that returns."""

    def __init__(self, database: Database, attempts: int | None = 3) -> None:
        self._database = database
        self._attempts = attempts
        self.script: Script = self.nothing
        self.started: list[Job] = []
        self.request_ids: list[str | None] = []
        self.given_up: list[ProblemDocument] = []
        self.cancelled = 0

    @property
    def limit(self) -> Limit | None:
        return None if self._attempts is None else Limit(self._attempts, self.give_up)

    async def run(self, job: Job) -> None:
        self.started.append(job)
        self.request_ids.append(request_id_var.get())
        try:
            await self.script(job)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await self._settle(job)

    async def give_up(self, job: Job, problem: ProblemDocument) -> None:
        self.given_up.append(problem)
        await self._settle(job)

    async def _settle(self, job: Job) -> None:
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost

    async def nothing(self, _: Job) -> None: ...


async def away(_: Job) -> None:
    raise Postponed(ServiceUnavailable("It is away."))


async def broken(_: Job) -> None:
    raise LookupError("a mistake of ours")


class Bench:
    """A database, one handler, and runners made for the test."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.handler = ScriptedHandler(database)
        self._url = url

    def runner(self, *, slots: int = 4, **fields: Any) -> JobRunner:
        settings = ApiSettings(environment=Environment.TEST, database_url=SecretStr(self._url), **fields)
        return JobRunner(Jobs(self.database), {TOPIC: self.handler}, settings, slots=slots)

    async def put(self, request_id: str | None = None) -> UUID:
        before = request_id_var.set(request_id)
        try:
            async with self.database.unit() as db:
                return await Outbox(db).put(TOPIC, uuid4())
        finally:
            request_id_var.reset(before)

    async def rows(self) -> list[asyncpg.Record]:
        return await self.database.fetch_rows("SELECT * FROM chat.outbox ORDER BY created_at, id")

    async def due_in(self) -> float:
        """Seconds until the only entry is due."""
        (row,) = await self.rows()
        due: datetime = row["available_at"]
        return (due - datetime.now(UTC)).total_seconds()

    async def make_due(self) -> None:
        await self.database.fetch_rows("UPDATE chat.outbox SET available_at = now()")


@pytest.fixture
async def bench(clean_database: DatabaseOfTests) -> AsyncIterator[Bench]:
    url = clean_database.api_url
    database = await Database.open(ApiSettings(environment=Environment.TEST, database_url=SecretStr(url)))
    yield Bench(database, url)
    await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_job_is_done_once_with_the_id_of_the_request_behind_it(bench: Bench) -> None:
    entry = await bench.put(request_id="trace-1")
    runner = bench.runner()
    await asyncio.gather(*(runner.run(entry) for _ in range(5)))
    assert [job.id for job in bench.handler.started] == [entry]
    assert bench.handler.request_ids == ["trace-1"]
    assert await bench.rows() == []
    assert request_id_var.get() is None


async def test_two_workers_do_it_once(bench: Bench) -> None:
    entries = [await bench.put() for _ in range(10)]
    runners = [bench.runner() for _ in range(3)]
    await asyncio.gather(*(runner.run(entry) for entry in entries for runner in runners))
    assert sorted(job.id for job in bench.handler.started) == sorted(entries)


def test_the_pauses_are_short_at_first_and_end_at_a_minute() -> None:
    assert [pause_seconds(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_seconds(10_000) == 60


async def test_what_may_heal_is_tried_again_after_a_pause(bench: Bench) -> None:
    entry = await bench.put()
    bench.handler.script = away
    runner = bench.runner()
    for pause in (1, 2):
        await runner.run(entry)
        assert pause - 0.9 < await bench.due_in() <= pause
        await runner.run(entry)
        assert len(bench.handler.started) == pause, "not before its time"
        await bench.make_due()
    await runner.run(entry)
    assert [job.attempt for job in bench.handler.started] == [1, 2, 3]
    (problem,) = bench.handler.given_up
    assert (problem.code, problem.detail) == ("service-unavailable", "It is away.")
    assert await bench.rows() == []


async def test_the_pause_is_no_shorter_than_what_was_asked_for(bench: Bench) -> None:
    async def busy(_: Job) -> None:
        raise Postponed(ServiceUnavailable(), after=30)

    bench.handler.script = busy
    await bench.runner().run(await bench.put())
    assert 29 < await bench.due_in() <= 30


async def test_some_work_is_never_given_up(bench: Bench) -> None:
    entry = await bench.put()
    await bench.database.fetch_rows("UPDATE chat.outbox SET attempt = 500")
    bench.handler = ScriptedHandler(bench.database, attempts=None)
    bench.handler.script = away
    await bench.runner().run(entry)
    assert bench.handler.given_up == []
    assert 59 < await bench.due_in() <= 60


async def test_a_mistake_of_ours_is_tried_again_too_and_then_told(bench: Bench) -> None:
    entry = await bench.put()
    bench.handler.script = broken
    runner = bench.runner()
    for _ in range(3):
        await runner.run(entry)
        await bench.make_due()
    (problem,) = bench.handler.given_up
    assert problem.code == "job-failed"
    assert "mistake" not in problem.detail


@pytest.mark.parametrize("noted", [False, True])
async def test_a_job_that_ends_its_worker_each_time_is_given_up(bench: Bench, noted: bool) -> None:
    """Nobody was left to count the last attempt: whoever claims the job next does."""
    entry = await bench.put()
    if noted:
        bench.handler.script = away
        await bench.runner().run(entry)
    await bench.database.fetch_rows("UPDATE chat.outbox SET attempt = 3, available_at = now()")
    bench.handler.started.clear()
    await bench.runner().run(entry)
    assert bench.handler.started == []
    assert [problem.code for problem in bench.handler.given_up] == [
        "service-unavailable" if noted else "worker-stopped"
    ]
    assert await bench.rows() == []


async def test_the_lease_lasts_as_long_as_the_work(bench: Bench) -> None:
    entry = await bench.put()
    enough = asyncio.Event()

    async def long(_: Job) -> None:
        await enough.wait()

    bench.handler.script = long
    runner = bench.runner(job_lease_seconds=0.4, job_heartbeat_seconds=0.1)
    other = bench.runner()
    running = asyncio.create_task(runner.run(entry))
    await until(lambda: bool(bench.handler.started))
    for _ in range(20):
        await asyncio.sleep(0.05)
        await other.run(entry)
    enough.set()
    await running
    assert len(bench.handler.started) == 1
    assert await bench.rows() == []


async def test_who_lost_the_lease_stops(bench: Bench) -> None:
    entry = await bench.put()

    async def for_ever(_: Job) -> None:
        await asyncio.Event().wait()

    bench.handler.script = for_ever
    runner = bench.runner(job_heartbeat_seconds=0.05)
    running = asyncio.create_task(runner.run(entry))
    await until(lambda: bool(bench.handler.started))
    await bench.database.fetch_rows("UPDATE chat.outbox SET attempt = attempt + 1, lease_owner = 'worker-2'")
    await asyncio.wait_for(running, 30)
    assert bench.handler.cancelled == 1
    (row,) = await bench.rows()
    assert row["lease_owner"] == "worker-2", "it is not ours to give back"


async def test_a_frozen_worker_writesnothing_when_it_thaws(bench: Bench) -> None:
    """The heartbeat did not run either, so only the fence is left."""
    entry = await bench.put()
    thawed = asyncio.Event()

    async def frozen(_: Job) -> None:
        await thawed.wait()

    bench.handler.script = frozen
    running = asyncio.create_task(bench.runner(job_heartbeat_seconds=60).run(entry))
    await until(lambda: bool(bench.handler.started))
    await bench.make_due()
    (current,) = await Jobs(bench.database).due([TOPIC], 1)
    assert await Jobs(bench.database).claim(current.id, "worker-2", 10) is not None
    thawed.set()
    await asyncio.wait_for(running, 30)
    (row,) = await bench.rows()
    assert (row["lease_owner"], row["attempt"]) == ("worker-2", 2)


async def test_no_more_at_once_than_there_are_slots(bench: Bench) -> None:
    entries = [await bench.put() for _ in range(5)]
    enough = asyncio.Event()

    async def long(_: Job) -> None:
        await enough.wait()

    bench.handler.script = long
    runner = bench.runner(slots=2)
    running = [asyncio.create_task(runner.run(entry)) for entry in entries]
    await until(lambda: len(bench.handler.started) == 2)
    await asyncio.sleep(0.1)
    assert len(bench.handler.started) == 2
    assert len(await Jobs(bench.database).due([TOPIC], 10)) == 3, "what waits is anybody's"
    enough.set()
    await asyncio.gather(*running)
    assert len(bench.handler.started) == 5


async def test_stopping_lets_what_runs_end_and_gives_the_rest_back(bench: Bench) -> None:
    entries = [await bench.put() for _ in range(3)]
    enough = asyncio.Event()
    short = entries[0]

    async def long(job: Job) -> None:
        await asyncio.sleep(0.1) if job.id == short else await enough.wait()

    bench.handler.script = long
    runner = bench.runner(slots=2)
    running = [asyncio.create_task(runner.run(entry)) for entry in entries[:2]]
    await until(lambda: len(bench.handler.started) == 2)
    await runner.stop(0.4)
    await runner.run(entries[2])
    await asyncio.gather(*running, return_exceptions=True)
    assert len(bench.handler.started) == 2, "nothing began after the stop"
    assert [row["id"] for row in await bench.rows()] == entries[1:]
    assert {due.id for due in await Jobs(bench.database).due([TOPIC], 10)} == set(entries[1:]), "due at once"
    assert bench.handler.cancelled == 1
    assert runner.running_count == 0


async def test_a_caller_that_goes_away_does_not_take_the_job_along(bench: Bench) -> None:
    """arq cancels what it called when its connection breaks; the job needs no Redis."""
    entry = await bench.put()
    enough = asyncio.Event()

    async def long(_: Job) -> None:
        await enough.wait()

    bench.handler.script = long
    runner = bench.runner()
    calling = asyncio.create_task(runner.run(entry))
    await until(lambda: bool(bench.handler.started))
    calling.cancel()
    await asyncio.wait({calling})
    enough.set()
    await until(lambda: runner.running_count == 0)
    assert bench.handler.cancelled == 0
    assert await bench.rows() == []


async def test_without_postgresqlnothing_is_lost_but_time(bench: Bench) -> None:
    """The connections are cut while the job runs; the lease runs out, and another attempt finishes it."""
    entry = await bench.put()

    async def cut(_: Job) -> None:
        await bench.database.fetch_rows("SELECT pg_terminate_backend(pg_backend_pid())")

    bench.handler.script = cut
    await bench.runner(job_lease_seconds=0.2).run(entry)
    (row,) = await bench.rows()
    assert row["attempt"] == 1
    await bench.make_due()
    bench.handler.script = bench.handler.nothing
    await bench.runner().run(entry)
    assert await bench.rows() == []
