"""What waits in the database, as Prometheus is told of it: for whoever it is late, and only what is true now."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from chat_api.kit.redis import RedisClients
from chat_api.telemetry import MOST_COUNTED, Backlog
from deploy.local.ports import free_port
from shared.settings import Environment
from tests.stores import Database as Stored


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def superuser(clean_database: Stored) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(clean_database.dsn(clean_database.superuser_url))
    yield connection
    await connection.close()


@pytest.fixture
async def open_database(clean_database: Stored) -> AsyncIterator[Database]:
    url = SecretStr(clean_database.api_url)
    database = await Database.open(ApiSettings(environment=Environment.TEST, database_url=url))
    yield database
    await database.close()


async def job(superuser: asyncpg.Connection, topic: str, due_seconds_ago: float) -> None:
    await superuser.execute(
        "INSERT INTO chat.outbox (id, topic, subject_id, available_at)"
        " VALUES ($1, $2, $3, now() - make_interval(secs => $4))",
        new_id(),
        topic,
        uuid4(),
        due_seconds_ago,
    )


async def run(superuser: asyncpg.Connection, session: object, status: str, seconds_ago: float) -> None:
    await superuser.execute(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id, status, created_at)"
        " VALUES ($1, $2, $3, $4, now() - make_interval(secs => $5))",
        session,
        new_id(),
        uuid4(),
        status,
        seconds_ago,
    )


async def a_session(superuser: asyncpg.Connection) -> object:
    user, session = new_id(), new_id()
    await superuser.execute(
        "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, $2, $3, '!')",
        user,
        f"{user}@example.org",
        f"user-{str(user)[-12:]}",
    )
    await superuser.execute("INSERT INTO chat.sessions (id, owner_id, title) VALUES ($1, $2, '')", session, user)
    return session


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_jobs_are_told_by_topic(superuser: asyncpg.Connection, open_database: Database) -> None:
    for due_seconds_ago in (90, 10, -60):  # the last is being done, or waits for another attempt
        await job(superuser, "first", due_seconds_ago)
    await job(superuser, "second", -5)
    registry = CollectorRegistry()
    await Backlog(registry, open_database, None).look()
    assert value(registry, "jobs_waiting", topic="first") == 3
    assert value(registry, "jobs_due", topic="first") == 2
    assert 90 <= (value(registry, "jobs_late_seconds", topic="first") or 0) < 120
    assert value(registry, "jobs_waiting", topic="second") == 1
    assert value(registry, "jobs_due", topic="second") == 0
    assert value(registry, "jobs_late_seconds", topic="second") == 0
    assert value(registry, "dependency_up", dependency="database") == 1


async def test_a_run_behind_another_one_is_not_late(superuser: asyncpg.Connection, open_database: Database) -> None:
    waits_for_a_person, waits_for_us = await a_session(superuser), await a_session(superuser)
    await run(superuser, waits_for_a_person, "awaiting_approval", 90_000)
    await run(superuser, waits_for_a_person, "queued", 80_000)
    await run(superuser, waits_for_us, "completed", 70_000)
    await run(superuser, waits_for_us, "queued", 45)
    registry = CollectorRegistry()
    await Backlog(registry, open_database, None).look()
    assert value(registry, "runs_waiting") == 2
    assert value(registry, "runs_due") == 1
    assert 45 <= (value(registry, "runs_late_seconds") or 0) < 75


async def test_what_is_done_is_no_longer_told(superuser: asyncpg.Connection, open_database: Database) -> None:
    clock, registry = Clock(), CollectorRegistry()
    backlog = Backlog(registry, open_database, None, clock)
    await job(superuser, "first", 1)
    await backlog.look()
    await superuser.execute("DELETE FROM chat.outbox")
    clock.now += 4  # somebody else asks: the database is not asked again
    await backlog.look()
    assert value(registry, "jobs_waiting", topic="first") == 1
    clock.now += 4
    await backlog.look()
    assert value(registry, "jobs_waiting", topic="first") is None


async def test_a_long_backlog_is_not_counted_to_its_end(superuser: asyncpg.Connection, open_database: Database) -> None:
    await superuser.execute(
        "INSERT INTO chat.outbox (id, topic, subject_id)"
        f" SELECT gen_random_uuid(), 'many', gen_random_uuid() FROM generate_series(1, {MOST_COUNTED} + 500)"
    )
    registry = CollectorRegistry()
    await Backlog(registry, open_database, None).look()
    assert value(registry, "jobs_waiting", topic="many") == MOST_COUNTED


async def test_stores_that_are_away_are_told_as_such() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    url = SecretStr(f"postgresql+asyncpg://nobody:nothing@{nowhere}/nothing")
    database = await Database.open(ApiSettings(environment=Environment.TEST, database_url=url))
    redis = RedisClients(f"redis://{nowhere}/0", command_seconds=10)
    registry = CollectorRegistry()
    await Backlog(registry, database, redis).look()
    assert value(registry, "dependency_up", dependency="database") == 0
    assert value(registry, "dependency_up", dependency="redis") == 0
    assert math.isnan(value(registry, "runs_late_seconds") or 0)
    await redis.close()
    await database.close()


async def test_redis_that_is_there_is_told_too(open_database: Database, redis_url: str) -> None:
    redis = RedisClients(redis_url, command_seconds=10)
    registry = CollectorRegistry()
    await Backlog(registry, open_database, redis).look()
    assert value(registry, "dependency_up", dependency="redis") == 1
    await redis.close()
