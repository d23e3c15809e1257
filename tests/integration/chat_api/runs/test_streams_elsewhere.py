"""A run of one process, followed from another, when Valkey or the process itself is away for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from chat_api.runs.events import RunEvent
from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent, UsageEvent
from tests.factories.chat import ChatApi, chat_api, joined_text
from tests.factories.store_lines import StoreLine, store_line
from tests.fakes.agent import DONE, USAGE
from tests.stores import Database


class Dictation:
    """A turn that says a word whenever the test says so."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[str | None] = asyncio.Queue()
        self._said = 0

    async def say(self, word: str, chat: ChatApi) -> None:
        """Return when readers in this process were told."""
        self._said += 1
        self.queue(word)
        while sum(pieces(stream.delivered) for stream in chat.engine.streams.live) < self._said:
            await asyncio.sleep(0.01)

    def queue(self, word: str) -> None:
        self._words.put_nowait(word)

    def end(self) -> None:
        self._words.put_nowait(None)

    async def __call__(self, _: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        while (word := await self._words.get()) is not None:
            yield DeltaEvent(text=word)
        yield UsageEvent(usage=USAGE)
        yield DONE


@dataclass
class Pair:
    """`here` runs what is sent there, and reaches Valkey by a line that the test can cut."""

    here: ChatApi
    elsewhere: ChatApi
    valkey: StoreLine


@pytest.fixture
async def pair(clean_database: Database, redis_url: str) -> AsyncIterator[Pair]:
    async with (
        store_line(redis_url) as valkey,
        chat_api(clean_database.api_url, valkey.url, redis_command_seconds=0.3) as here,
        chat_api(clean_database.api_url, redis_url) as elsewhere,
    ):
        yield Pair(here, elsewhere, valkey)


def pieces(events: Iterable[RunEvent]) -> int:
    return sum(event.type == "message.delta" for event in events)


@pytest.mark.parametrize("way", ["hangs", "refuses"])
async def test_a_reader_elsewhere_gets_every_piece_that_was_said_meanwhile(pair: Pair, way: str) -> None:
    ann = await pair.here.person("ann")
    session = await pair.here.session(ann)
    dictation = Dictation()
    pair.here.agent.script = dictation
    run = (await pair.here.send_async(ann, session))["run"]
    following = asyncio.create_task(pair.elsewhere.events(ann, run["id"]))
    async with asyncio.timeout(60):
        await dictation.say("a", pair.here)
        if way == "hangs":
            pair.valkey.hang()
        else:
            await pair.valkey.refuse()
        for word in "bcd":
            await dictation.say(word, pair.here)
        assert pieces(await pair.elsewhere.engine.streams.logged(UUID(run["id"]))) == 1
        if way == "hangs":
            pair.valkey.go_on()
        else:
            await pair.valkey.open()
        # Nothing more is said before the log has it all.
        while pieces(await pair.elsewhere.engine.streams.logged(UUID(run["id"]))) < 4:
            await asyncio.sleep(0.05)
        await dictation.say("e", pair.here)
        dictation.end()
        told = await following
    assert [event.id for event in told] == list(range(1, len(told) + 1))
    assert joined_text(told) == "abcde"
    assert told[-1].type == "run.completed"


async def test_who_was_thought_dead_adds_nothing_to_the_stream_of_who_took_over(
    clean_database: Database, redis_url: str
) -> None:
    slow: dict[str, Any] = {"run_lease_seconds": 2, "run_heartbeat_seconds": 0.2, "run_poll_seconds": 0.2}
    async with (
        chat_api(clean_database.api_url, redis_url, **slow) as frozen,
        chat_api(clean_database.api_url, redis_url, **slow) as other,
    ):
        ann = await frozen.person("ann")
        session = await frozen.session(ann)
        late, right = Dictation(), Dictation()
        frozen.agent.script, other.agent.script = late, right
        async with asyncio.timeout(60):
            run = (await frozen.send_async(ann, session))["run"]
            while not frozen.agent.requests:
                await asyncio.sleep(0.01)
            # It misses its heartbeats, and the other answers the run, which has not said anything yet.
            await frozen.engine.recovery.stop()
            while not other.agent.requests:
                await asyncio.sleep(0.01)
            following = asyncio.create_task(other.events(ann, run["id"]))
            late.queue("too late")
            while any(stream.run_id == UUID(run["id"]) and not stream.ended for stream in frozen.engine.streams.live):
                await asyncio.sleep(0.01)
            await right.say("just in time", other)
            right.end()
            late.end()
            told = await following
        assert [event.id for event in told] == list(range(1, len(told) + 1))
        assert joined_text(told) == "just in time"
        assert told[-1].type == "run.completed"
        assert [event.id for event in await frozen.events(ann, run["id"])] == [event.id for event in told]
