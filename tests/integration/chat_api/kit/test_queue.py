"""From the outbox through Redis to a worker: soon, and again when something was lost on the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.jobs import JobRunner
from chat_api.kit.outbox import Job, Jobs, LeaseLost, Outbox, settle
from chat_api.kit.queue import Relay, job_worker, keep_working
from deploy.local.ports import free_port
from shared.settings import Environment
from tests.stores import Database as DatabaseOfTests

TOPIC = "test.topic"
QUEUE = "colloquy:test"


class Counting:
    """Settles each job, and counts."""

    limit = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self.done: list[UUID] = []

    async def run(self, job: Job) -> None:
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
        self.done.append(job.id)


class Line:
    """An outbox, a Redis, and workers between them."""

    def __init__(self, database: Database, settings: ApiSettings, redis: Redis) -> None:
        self.database = database
        self.settings = settings
        self.redis = redis
        self.handler = Counting(database)
        self.jobs = Jobs(database)

    async def put(self, count: int = 1) -> list[UUID]:
        async with self.database.unit() as db:
            return [await Outbox(db).put(TOPIC, uuid4()) for _ in range(count)]

    def relay(self, **fields: float) -> Relay:
        return Relay(self.jobs, self.settings, QUEUE, [TOPIC], **fields)

    @asynccontextmanager
    async def worker(self, *, relay: bool = True) -> AsyncIterator[JobRunner]:
        runner = JobRunner(self.jobs, {TOPIC: self.handler}, self.settings, slots=4)
        loops = [asyncio.create_task(keep_working(partial(job_worker, self.settings, QUEUE, runner)))]
        if relay:
            loops.append(asyncio.create_task(self.relay().run()))
        try:
            yield runner
        finally:
            await runner.stop(1)
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def queued(self) -> list[str]:
        return [name.decode() for name in await self.redis.zrange(QUEUE, 0, -1)]


@pytest.fixture
async def line(clean_database: DatabaseOfTests, redis_url: str) -> AsyncIterator[Line]:
    async with line_to(clean_database.api_url, redis_url) as line:
        yield line


@asynccontextmanager
async def line_to(database_url: str, redis_url: str) -> AsyncIterator[Line]:
    settings = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        job_poll_seconds=0.05,
    )
    database = await Database.open(settings)
    redis = Redis.from_url(redis_url)
    yield Line(database, settings, redis)
    await redis.aclose()
    await database.close()


async def until(condition: Callable[[], bool], seconds: float = 8) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_put_is_done_and_leaves_nothing_in_redis(line: Line) -> None:
    async with line.worker(), line.worker():
        entries = await line.put(30)
        await until(lambda: len(line.handler.done) == 30)
        await asyncio.sleep(0.3)
    assert sorted(line.handler.done) == sorted(entries), "each once"
    assert await line.queued() == []
    assert [key async for key in line.redis.scan_iter("arq:*")] == []


async def test_an_id_is_in_the_queue_once_however_many_relays_say_it(line: Line) -> None:
    (entry,) = await line.put()
    for _ in range(3):
        relay = line.relay()
        await relay.relay_once()
        await relay.relay_once()
        await relay.aclose()
    assert await line.queued() == [f"{entry}:0"]


async def test_what_redis_forgot_is_said_again(line: Line) -> None:
    relay = line.relay(say_again_seconds=0.1)
    (entry,) = await line.put()
    await relay.relay_once()
    await line.redis.flushdb()
    await relay.relay_once()
    assert await line.queued() == []
    await asyncio.sleep(0.1)
    await relay.relay_once()
    assert await line.queued() == [f"{entry}:0"]
    await relay.aclose()


async def test_a_killed_workers_job_comes_back_under_a_new_id(line: Line) -> None:
    """arq believes for an hour that the killed worker is at it; its id must not stand in the way, nor in the queue."""
    (entry,) = await line.put()
    relay = line.relay()
    await relay.relay_once()
    await line.redis.set(in_progress_key_prefix + f"{entry}:0", b"1", px=3_600_000)
    assert await line.jobs.claim(entry, "killed", 0) is not None
    await relay.relay_once()
    assert await line.queued() == [f"{entry}:1"]
    assert await line.redis.exists(in_progress_key_prefix + f"{entry}:0", job_key_prefix + f"{entry}:0") == 0
    async with line.worker(relay=False):
        await until(lambda: line.handler.done == [entry])
    await relay.aclose()


async def test_what_comes_back_keeps_its_place_in_the_queue(line: Line) -> None:
    first, second = await line.put(), await line.put()
    relay = line.relay()
    assert await line.jobs.claim(first[0], "killed", 0) is not None
    await line.database.fetch_rows(
        "UPDATE chat.outbox SET created_at = now() - interval '3 days' WHERE id = $1", *first
    )
    await relay.relay_once()
    assert await line.queued() == [f"{first[0]}:1", f"{second[0]}:0"]
    await relay.aclose()


async def test_a_worker_that_died_before_its_claim_holds_nothing_up(line: Line) -> None:
    (entry,) = await line.put()
    relay = line.relay(say_again_seconds=0.1)
    await relay.relay_once()
    await line.redis.set(in_progress_key_prefix + f"{entry}:0", b"1", px=3_600_000)
    async with line.worker(relay=False):
        await asyncio.sleep(0.3)
        assert line.handler.done == []
        await relay.relay_once()
        await until(lambda: line.handler.done == [entry])
    await relay.aclose()


async def test_while_redis_is_away_rows_wait_and_the_worker_lives(
    clean_database: DatabaseOfTests, redis_url: str
) -> None:
    """Nothing listens at first; then a server appears (a port forwarded to the real one), goes, and comes back."""
    port = free_port()
    away = redis_url.rsplit("@", 1)[0] + f"@127.0.0.1:{port}/" + redis_url.rsplit("/", 1)[1]
    real_port = int(redis_url.rsplit(":", 1)[1].split("/", 1)[0])
    async with line_to(clean_database.api_url, away) as line, line.worker():
        await line.put(2)
        await asyncio.sleep(0.5)
        assert line.handler.done == []
        assert len(await line.jobs.due([TOPIC], 10)) == 2
        async with forwarded(port, real_port):
            await until(lambda: len(line.handler.done) == 2)
        await line.put(2)
        await asyncio.sleep(0.5)
        assert len(line.handler.done) == 2
        async with forwarded(port, real_port):
            await until(lambda: len(line.handler.done) == 4)


async def connections(line: Line) -> set[str]:
    """To the logical database of this test."""
    own_database = (await line.redis.client_info())["db"]
    return {client["id"] for client in await line.redis.client_list() if int(client["db"]) == int(own_database)}


async def test_told_to_stop_while_it_connects_a_worker_leaves_no_connection(line: Line) -> None:
    before = await connections(line)
    runner = JobRunner(line.jobs, {TOPIC: line.handler}, line.settings, slots=4)
    for steps in range(60):
        worker = asyncio.create_task(keep_working(partial(job_worker, line.settings, QUEUE, runner)))
        for _ in range(steps):
            await asyncio.sleep(0)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    gc.collect()  # what is dropped while it is connected says so, and fails the test
    async with asyncio.timeout(30):
        while await connections(line) != before:
            await asyncio.sleep(0.05)


async def test_the_relay_speaks_json(line: Line) -> None:
    (entry,) = await line.put()
    relay = line.relay()
    await relay.relay_once()
    await relay.aclose()
    stored = await line.redis.get(job_key_prefix + f"{entry}:0")
    assert stored is not None
    assert stored.startswith(b"{")


@asynccontextmanager
async def forwarded(port: int, to: int) -> AsyncIterator[None]:
    """While inside, what connects to `port` speaks with `to`. Afterwards every connection is cut."""
    writers: list[asyncio.StreamWriter] = []
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except (OSError, RedisError):
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
        writers.extend((writer, there_writer))
        pumps.extend((asyncio.create_task(pump(reader, there_writer)), asyncio.create_task(pump(there_reader, writer))))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*pumps, return_exceptions=True)
