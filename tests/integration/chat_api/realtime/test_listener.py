"""Hints as they travel through Valkey: none is missed without being looked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from chat_api.kit.redis import RedisClients
from chat_api.realtime.listener import RedisListener
from chat_api.sessions.hints import (
    Ephemeral,
    EventsAdded,
    Hint,
    PresenceChanged,
    SessionGone,
    SessionHints,
    channel_of,
    encode,
)
from tests.factories.store_lines import store_line


class Ear:
    def __init__(self, redis: RedisClients, origin: str = "here") -> None:
        self.hints: list[tuple[UUID, Hint]] = []
        self.caught_up: Counter[UUID] = Counter()
        self.fails = False
        self.listener = RedisListener(redis.blocking, origin, heard=self._heard, caught_up=self._caught_up)

    def _heard(self, session_id: UUID, hint: Hint) -> None:
        if self.fails:
            self.fails = False
            raise RuntimeError("unheard of")
        self.hints.append((session_id, hint))

    def _caught_up(self, session_id: UUID) -> None:
        self.caught_up[session_id] += 1

    async def follow(self, session_id: UUID) -> None:
        before = self.caught_up[session_id]
        self.listener.follow(session_id)
        await until(lambda: self.caught_up[session_id] > before)


async def until(true: Callable[[], Any], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisClients]:
    clients = RedisClients(redis_url, command_seconds=10)
    yield clients
    await clients.close()


@asynccontextmanager
async def listening(redis: RedisClients) -> AsyncIterator[Ear]:
    ear = Ear(redis)
    ear.listener.start()
    try:
        yield ear
    finally:
        await ear.listener.close()


@pytest.fixture
async def ear(redis: RedisClients) -> AsyncIterator[Ear]:
    async with listening(redis) as ear:
        yield ear


@pytest.fixture
async def hints(redis: RedisClients) -> AsyncIterator[SessionHints]:
    hints = SessionHints(redis.commands)
    hints.start()
    yield hints
    await hints.close()


async def test_hints_of_what_is_followed_arrive_whole_and_no_others(ear: Ear, hints: SessionHints) -> None:
    followed, other = uuid4(), uuid4()
    await ear.follow(followed)
    typing = Ephemeral("connection", '{"type":"typing","data":"ä b\\n"}'.encode())
    for hint in (EventsAdded(7), SessionGone(), PresenceChanged(), typing):
        hints.tell(other, hint)
        hints.tell(followed, hint)
    # The number is told first, whatever else waits.
    await until(lambda: len(ear.hints) == 4)
    assert ear.hints == [(followed, hint) for hint in (EventsAdded(7), SessionGone(), PresenceChanged(), typing)]


async def test_only_the_last_of_many_numbers_is_told(ear: Ear, hints: SessionHints) -> None:
    session_id = uuid4()
    await ear.follow(session_id)
    for number in (1, 2, 5, 4, 3):
        hints.tell(session_id, EventsAdded(number))
    await until(lambda: ear.hints)
    assert ear.hints == [(session_id, EventsAdded(5))]


async def test_what_is_said_last_is_said_before_the_end(ear: Ear, redis: RedisClients) -> None:
    session_id = uuid4()
    await ear.follow(session_id)
    for number in range(1, 11):
        hints = SessionHints(redis.commands)
        hints.start()
        hints.tell(session_id, EventsAdded(1))
        for _ in range(number % 5):
            await asyncio.sleep(0)  # some are under way
        hints.tell(session_id, EventsAdded(number + 1))
        await hints.close()
    await until(lambda: (session_id, EventsAdded(11)) in ear.hints)
    assert {(session_id, EventsAdded(number)) for number in range(2, 12)} <= set(ear.hints)


async def test_nobody_hears_themselves(redis: RedisClients, hints: SessionHints) -> None:
    ear = Ear(redis, hints.origin)
    ear.listener.start()
    session_id = uuid4()
    await ear.follow(session_id)
    hints.tell(session_id, EventsAdded(1))
    await redis.commands.publish(channel_of(session_id), encode(EventsAdded(2), "elsewhere"))
    await until(lambda: ear.hints)
    assert ear.hints == [(session_id, EventsAdded(2))]
    await ear.listener.close()


async def test_a_connection_that_is_killed_comes_back_and_everything_is_looked_at(
    ear: Ear, redis: RedisClients, hints: SessionHints
) -> None:
    session_ids = [uuid4() for _ in range(20)]
    for session_id in session_ids:
        await ear.follow(session_id)
    for round_ in range(1, 4):
        # Only of this logical database: others test here too.
        for client in await redis.commands.client_list(_type="pubsub"):
            if client["db"] == str(redis.commands.connection_pool.connection_kwargs["db"]):
                await redis.commands.client_kill(client["addr"])
        ear.listener.follow(uuid4())
        async with asyncio.timeout(30):
            while any(ear.caught_up[session_id] <= round_ for session_id in session_ids):
                await asyncio.sleep(0.01)
    hints.tell(session_ids[0], EventsAdded(9))
    await until(lambda: ear.hints)
    assert len(ear.caught_up) == 23
    assert ear.listener.is_connected


async def test_what_is_followed_while_the_line_breaks_is_followed_afterwards(redis_url: str) -> None:
    async with store_line(redis_url) as line:
        clients = RedisClients(line.url, command_seconds=10)
        async with listening(clients) as ear:
            await ear.follow(uuid4())
            wanted = set()
            for number in range(30):
                wanted.add(session_id := uuid4())
                ear.listener.follow(session_id)
                await asyncio.sleep(0.001 * (number % 4))
                if number % 5 == 0:
                    line.cut()
            await until(lambda: ear.listener._wanted <= ear.listener._subscribed and wanted <= set(ear.caught_up), 10)
            last = RedisClients(redis_url, command_seconds=10)
            for session_id in wanted:
                receivers = await last.commands.publish(channel_of(session_id), encode(EventsAdded(1), "there"))
                assert receivers == 1
            await until(lambda: {session_id for session_id, _ in ear.hints} == wanted)
            await last.close()
        await clients.close()


async def test_what_is_given_up_is_not_heard_any_more(ear: Ear, redis: RedisClients) -> None:
    kept, given_up = uuid4(), uuid4()
    await ear.follow(kept)
    await ear.follow(given_up)
    ear.listener.unfollow(given_up)

    async def is_deaf() -> bool:
        return not await redis.commands.publish(channel_of(given_up), b"there e1")

    async with asyncio.timeout(30):
        while not await is_deaf():
            await asyncio.sleep(0.01)
    assert await redis.commands.publish(channel_of(kept), b"there e1") == 1


async def test_what_is_followed_again_at_once_is_looked_at(ear: Ear) -> None:
    session_id = uuid4()
    await ear.follow(session_id)
    ear.listener.unfollow(session_id)
    # What was heard before this was for nobody.
    ear.listener.follow(session_id)
    assert ear.caught_up[session_id] == 2


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b" ",
        b"there",
        b"there ",
        b"there e",
        b"there eten",
        b"there e" + b"9" * 5000,
        b"there z1",
        b"\xff e1",
        b"there x\xff {}",
    ],
)
async def test_what_another_version_says_is_passed_over(ear: Ear, redis: RedisClients, message: bytes) -> None:
    session_id = uuid4()
    await ear.follow(session_id)
    await redis.commands.publish(channel_of(session_id), message)
    await redis.commands.publish(channel_of(session_id), encode(EventsAdded(3), "there"))
    await until(lambda: ear.hints)
    assert ear.hints == [(session_id, EventsAdded(3))]
    assert ear.caught_up[session_id] == 1


async def test_an_error_that_nobody_thought_of_does_not_end_the_hearing(ear: Ear, hints: SessionHints) -> None:
    session_id = uuid4()
    await ear.follow(session_id)
    ear.fails = True
    hints.tell(session_id, EventsAdded(1))
    await until(lambda: ear.caught_up[session_id] == 2)
    hints.tell(session_id, EventsAdded(2))
    await until(lambda: ear.hints)
    assert ear.hints == [(session_id, EventsAdded(2))]
