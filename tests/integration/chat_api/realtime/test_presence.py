"""Who is there, as several processes find out by way of Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import pytest

from chat_api.kit.redis import RedisClients
from chat_api.realtime.listener import RedisListener
from chat_api.realtime.presence import Presence
from chat_api.sessions.hints import Hint, PresenceChanged, SessionHints
from tests.factories.store_lines import StoreLine, store_line

SECONDS = 0.6
SESSION = uuid4()
ANN, BOB = uuid4(), uuid4()
Change = tuple[UUID, bool]


class Process:
    """Presence as a process has it, with the hints that wake it."""

    def __init__(self, redis: RedisClients) -> None:
        self.changes: list[Change] = []
        self.hints = SessionHints(redis.commands)
        self.presence = Presence(redis.commands, self.hints, seconds=SECONDS, changed=self._changed)
        self.listener = RedisListener(
            redis.blocking, self.hints.origin, heard=self._heard, caught_up=lambda session_id: None
        )

    def _changed(self, session_id: UUID, user_id: UUID, username: str, online: bool) -> None:
        assert session_id == SESSION
        self.changes.append((user_id, online))

    def _heard(self, session_id: UUID, hint: Hint) -> None:
        if isinstance(hint, PresenceChanged):
            self.presence.look(session_id)

    async def start(self) -> None:
        self.hints.start()
        self.presence.start()
        self.listener.follow(SESSION)
        self.listener.start()
        async with asyncio.timeout(30):
            while not self.listener._subscribed:
                await asyncio.sleep(0.01)

    async def die(self) -> None:
        """Without a word, as a killed process does."""
        assert self.presence._task is not None
        self.presence._task.cancel()
        await asyncio.wait({self.presence._task})
        self.presence._task = None

    async def close(self) -> None:
        await asyncio.gather(self.presence.close(), self.hints.close(), self.listener.close())


@asynccontextmanager
async def running(url: str, command_seconds: float = 10) -> AsyncIterator[Process]:
    redis = RedisClients(url, command_seconds=command_seconds)
    process = Process(redis)
    await process.start()
    try:
        yield process
    finally:
        await process.close()
        await redis.close()


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(running(redis_url)) for _ in range(2)]
        yield here, there
        await asyncio.gather(here.close(), there.close())


async def until(true: Callable[[], bool], within: float = 3.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def test_who_comes_knows_the_others_at_once_and_they_hear_of_it(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    await there.presence.arrived(SESSION, BOB, "bob:with:colons")
    assert there.presence.of(SESSION) == {ANN: "ann", BOB: "bob:with:colons"}
    await until(lambda: (BOB, True) in here.changes, SECONDS / 4)
    there.presence.left(SESSION, BOB)
    await until(lambda: (BOB, False) in here.changes, SECONDS / 4)
    assert here.changes == [(ANN, True), (BOB, True), (BOB, False)]


async def test_several_devices_are_one_person(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    for _ in range(2):
        await there.presence.arrived(SESSION, BOB, "bob")
    await here.presence.arrived(SESSION, BOB, "bob")
    there.presence.left(SESSION, BOB)
    there.presence.left(SESSION, BOB)
    await asyncio.sleep(SECONDS * 1.5)
    assert here.changes == [(ANN, True), (BOB, True)]
    here.presence.left(SESSION, BOB)
    await until(lambda: (BOB, False) in here.changes)


async def test_nobody_runs_out_however_much_is_asked_for_in_between(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    await there.presence.arrived(SESSION, BOB, "bob")
    until_then = time.monotonic() + SECONDS * 3
    while time.monotonic() < until_then:
        there.presence.look(uuid4())
        await asyncio.sleep(0.02)
    assert here.presence.of(SESSION) == {ANN: "ann", BOB: "bob"}
    assert (BOB, False) not in here.changes


async def test_people_of_a_process_that_died_run_out(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    await there.presence.arrived(SESSION, BOB, "bob")
    await until(lambda: (BOB, True) in here.changes)
    await there.die()
    await until(lambda: (BOB, False) in here.changes, SECONDS * 2)


async def test_a_process_that_ends_takes_its_people_back(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    await there.presence.arrived(SESSION, BOB, "bob")
    await until(lambda: (BOB, True) in here.changes)
    # Just when a round is under way.
    there.presence.look(SESSION)
    await asyncio.sleep(0)
    await there.presence.close()
    await there.hints.close()
    await until(lambda: (BOB, False) in here.changes, SECONDS / 3)


async def test_coming_and_going_many_times_ends_as_it_is(two: tuple[Process, Process]) -> None:
    here, there = two
    await here.presence.arrived(SESSION, ANN, "ann")
    for _ in range(20):
        arriving = asyncio.create_task(there.presence.arrived(SESSION, BOB, "bob"))
        await asyncio.sleep(0)
        there.presence.left(SESSION, BOB)
        await arriving
    await asyncio.sleep(SECONDS / 3)
    assert there.presence.of(SESSION) == {}
    assert here.presence.of(SESSION) == {ANN: "ann"}
    told = [online for user_id, online in here.changes if user_id == BOB]
    assert told == [True, False] * (len(told) // 2)


async def test_what_another_version_wrote_is_passed_over(two: tuple[Process, Process], redis_url: str) -> None:
    here, there = two
    redis = RedisClients(redis_url, command_seconds=10)
    await redis.commands.zadd(f"colloquy:presence:{SESSION.hex}", {"nobody": 9e12})
    await redis.commands.zadd(f"colloquy:presence:{SESSION.hex}", {b"\xff:x:y": 9e12})
    await redis.close()
    await here.presence.arrived(SESSION, ANN, "ann")
    await there.presence.arrived(SESSION, BOB, "bob")
    await until(lambda: here.presence.of(SESSION) == {ANN: "ann", BOB: "bob"})


@asynccontextmanager
async def behind_a_line(url: str) -> AsyncIterator[tuple[StoreLine, Process]]:
    async with store_line(url) as line, running(line.url, command_seconds=0.5) as process:
        yield line, process


async def test_without_valkey_those_elsewhere_run_out_and_come_back(redis_url: str) -> None:
    async with behind_a_line(redis_url) as (line, here), running(redis_url) as there:
        await here.presence.arrived(SESSION, ANN, "ann")
        await there.presence.arrived(SESSION, BOB, "bob")
        await until(lambda: (BOB, True) in here.changes)
        await line.refuse()
        await until(lambda: (BOB, False) in here.changes, SECONDS * 3)
        assert here.presence.of(SESSION) == {ANN: "ann"}
        await line.open()
        await until(lambda: here.presence.of(SESSION) == {ANN: "ann", BOB: "bob"})
    assert (ANN, False) not in here.changes


async def test_nobody_waits_twice_for_one_that_hangs(redis_url: str) -> None:
    async with behind_a_line(redis_url) as (line, here):
        line.hang()
        here._changed = lambda *_: None  # type: ignore[method-assign]  # sessions of all kinds
        here.presence._changed = here._changed
        await here.presence.arrived(uuid4(), ANN, "ann")
        began = time.monotonic()
        for _ in range(20):
            await here.presence.arrived(uuid4(), ANN, "ann")
        assert time.monotonic() - began < 5, "each has waited for it"
        line.go_on()
