"""Figures are what a recount gives, whatever happened, at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
from bisect import bisect_right
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chat_api.analytics.folding import fold, fold_some, forget_person
from chat_api.analytics.histogram import BOUNDS_MS
from chat_api.analytics.recount import RECOUNT_TOPIC, Recount, RecountJob
from chat_api.analytics.repository import AnalyticsRepository
from chat_api.analytics.tally import Sum
from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from chat_api.kit.outbox import Jobs, Outbox
from tests.factories.chat import ChatApi, Person
from tests.factories.lives import FIRST, LAST, Key, Life, counted
from tests.stores import Database as Store


@pytest.fixture
async def store(clean_database: Store) -> AsyncIterator[Database]:
    database = await Database.open(ApiSettings(database_url=clean_database.api_url))
    yield database
    await database.close()


def shown(rows: list[Sum]) -> dict[Key, tuple[Any, ...]]:
    return {
        (row.subject, row.provider, row.name, row.outcome): (
            row.number,
            row.total_tokens,
            row.cost,
            {int(bucket): times for bucket, times in row.durations.items()},
        )
        for row in rows
        if row.number and row.subject != "active"
    }


async def everything_is_right(store: Database, people: list[UUID]) -> None:
    repository = AnalyticsRepository(store)
    assert shown(await repository.of_everybody(FIRST, LAST, by_day=False)) == await counted(store, None)
    for person in people:
        assert shown(await repository.of_person(person, FIRST, LAST, by_day=False)) == await counted(store, person)
    assert await Recount(store).differences() == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_order_of_events_and_folds(store: Database, seed: int) -> None:
    life, folds = Life(store, seed), random.Random(seed)
    await life.begin()
    for number in range(1, 121):
        await life.step()
        if folds.random() < 0.1:
            await fold(store, most=folds.choice([3, 1000]))
        if number % 40 == 0:
            await everything_is_right(store, life.people)
    await fold(store)
    await everything_is_right(store, life.people)
    for session in life.sessions:
        await store.fetch_rows("DELETE FROM chat.sessions WHERE id = $1", session)
    await fold(store)
    for table in ("analytics_deltas", "analytics_days", "analytics_user_days"):
        assert await store.fetch_rows(f"SELECT * FROM chat.{table}") == [], "nothing is left of what is gone"


async def test_at_no_moment_is_anything_counted_twice_or_not_at_all(store: Database) -> None:
    first = Life(store, 0)
    await first.begin()
    lives = [first, *(Life(store, seed) for seed in (1, 2, 3))]
    for life in lives[1:]:
        await life.begin(first.people)
        life.sessions.append(first.sessions[0])
    done = asyncio.Event()

    async def live(life: Life) -> None:
        for _ in range(60):
            await life.step()

    async def keep_folding() -> int:
        folded = 0
        while not done.is_set():
            folded += await fold(store, most=7)
        return folded

    async def keep_looking() -> int:
        looks = 0
        while not done.is_set():
            assert await Recount(store).differences() == []
            looks += 1
        return looks

    folding = [asyncio.create_task(keep_folding()) for _ in range(2)]
    looking = asyncio.create_task(keep_looking())
    await asyncio.gather(*(live(life) for life in lives))
    done.set()
    assert sum(await asyncio.gather(*folding)) > 50
    assert await looking > 3
    await everything_is_right(store, first.people)


async def test_a_repair_finds_what_was_written_past_the_triggers(store: Database) -> None:
    life = Life(store, 5)
    await life.begin()
    for _ in range(80):
        await life.step()
    await fold(store)
    await store.fetch_rows("UPDATE chat.analytics_days SET number = number + 5, durations = '{\"3\": 2}'")
    await store.fetch_rows("DELETE FROM chat.analytics_user_days WHERE subject = 'message'")
    await store.fetch_rows(
        "INSERT INTO chat.analytics_days SELECT date '2026-01-02', 'run', 'gone', 'model', 'failed', 3, 1, 1, 2, 0.5,"
        " '{}', '{\"9\": 3}'"
    )
    recount = Recount(store)

    found = await recount.differences()
    assert any(one.provider == "gone" and one.number == -3 and one.user_id is None for one in found)
    assert any(one.subject == "message" and one.user_id in life.people for one in found)
    assert await recount.repair() == len(found)
    assert await recount.repair() == 0
    await everything_is_right(store, life.people)


async def test_what_was_there_before_figures_were_kept_is_counted_once(store: Database) -> None:
    life = Life(store, 9)
    await life.begin()
    session, message, reply = life.sessions[0], new_id(), new_id()
    await store.fetch_rows(
        "INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, provider, model, latency_ms,"
        " created_at) VALUES ($1, 1, $2, 'user', $4, 'Hello', NULL, NULL, NULL, $5),"
        " ($1, 2, $3, 'assistant', NULL, 'Hi', 'openai', 'small', 700, $5)",
        session, message, reply, life.people[0], datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    await store.fetch_rows(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id, reply_message_id, status, usage, created_at,"
        " finished_at) VALUES ($1, uuidv7(), $2, $3, 'completed', '{\"total_tokens\": 12}', $4, $4)",
        session, message, reply, datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    for table in ("analytics_deltas", "analytics_days", "analytics_user_days"):
        await store.fetch_rows(f"DELETE FROM chat.{table}")
    async with store.unit() as db:
        await Outbox(db).put(RECOUNT_TOPIC, new_id())
    [due] = await Jobs(store).due([RECOUNT_TOPIC], 10)

    job = await Jobs(store).claim(due.id, "a worker", 60)
    assert job is not None
    await RecountJob(store).run(job)

    await everything_is_right(store, life.people)
    mine = shown(await AnalyticsRepository(store).of_person(life.people[0], FIRST, LAST, by_day=False))
    assert mine["run", "openai", "small", "completed"] == (1, 12, 0, {bisect_right(BOUNDS_MS, 700): 1})
    assert await Jobs(store).due([RECOUNT_TOPIC], 10) == []


async def test_nobody_finds_who_was_forgotten(store: Database) -> None:
    life = Life(store, 11)
    await life.begin()
    for _ in range(60):
        await life.step()
    await fold(store)
    for _ in range(20):
        await life.step()
    gone = life.people[0]
    for table, column in (("messages", "sender_id"), ("runs", "requested_by"), ("tool_executions", "requested_by")):
        await store.fetch_rows(f"UPDATE chat.{table} SET {column} = NULL WHERE {column} = $1", gone)
    await store.fetch_rows("DELETE FROM chat.sessions WHERE owner_id = $1", gone)

    async with store.unit() as db:
        await forget_person(db, gone)
    for table in ("analytics_deltas", "analytics_user_days"):
        assert await store.fetch_rows(f"SELECT * FROM chat.{table} WHERE user_id = $1", gone) == [], table
    await everything_is_right(store, life.people)
    await fold(store)
    await everything_is_right(store, life.people)


async def test_a_fold_that_breaks_off_takes_nothing_away(store: Database) -> None:
    life = Life(store, 13)
    await life.begin()
    for _ in range(20):
        await life.step()
    with contextlib.suppress(ConnectionError):
        async with store.unit() as db:
            assert await fold_some(db, 10) == 10
            raise ConnectionError
    assert await store.fetch_rows("SELECT 1 FROM chat.analytics_days") == []
    await everything_is_right(store, life.people)


async def test_a_fold_that_meets_half_of_a_change_loses_nothing(chat: ChatApi, ann: Person) -> None:
    """Deltas are folded in any order: a day may count no row for a moment, and still have a sum."""
    database = chat.app.state.database
    await fold(database)
    for number, tokens in ((1, 12), (-1, -10), (1, 10)):
        await chat.rows(
            "INSERT INTO chat.analytics_deltas (day, user_id, subject, name, number, total_tokens)"
            " VALUES (current_date, $1, 'run', 'm', $2, $3)",
            ann.id,
            number,
            tokens,
        )
    for _ in range(2):
        async with database.unit() as db:
            await fold_some(db, 2)

    [row] = await chat.rows("SELECT number, total_tokens FROM chat.analytics_user_days WHERE name = 'm'")
    assert tuple(row) == (1, 12)
