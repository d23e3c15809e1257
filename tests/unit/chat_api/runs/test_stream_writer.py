"""What a shared log did not take is handed to it later, and never in a wrong place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from chat_api.runs.events import RunEvent
from chat_api.runs.live_stream import LiveStream
from chat_api.runs.stream_log import Entry, Kept, NoStreamLog
from chat_api.runs.stream_writer import StreamWriter

RUN = uuid4()


class FadingLog(NoStreamLog):
    """Numbers rise, as in Redis. It can be away before it does a command, or before it answers."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.is_away = False
        self.loses_answers = False
        self.is_full = False
        self.asked = 0
        self.kept_for: list[UUID] = []

    async def append(self, entries: Sequence[Entry]) -> list[Kept]:
        self.asked += 1
        if self.is_away or self.is_full:
            return [Kept.AWAY] * len(entries)
        results = [self._add(event) for _, event, _ in entries]
        return [Kept.AWAY] * len(entries) if self.loses_answers else results

    def _add(self, event: RunEvent) -> Kept:
        if self.events and self.events[-1].id >= event.id:
            return Kept.NUMBER_TAKEN
        self.events.append(event)
        return Kept.YES

    async def recall(self, run_id: UUID, after: int) -> list[RunEvent] | None:
        if self.is_away or self.loses_answers:
            return None
        return [event for event in self.events if event.id > after]

    async def keep_for(self, run_id: UUID, seconds: int) -> None:
        if not self.is_away:
            self.kept_for.append(run_id)

    @property
    def numbers(self) -> list[int]:
        return [event.id for event in self.events]


class Scene:
    def __init__(self) -> None:
        self.log = FadingLog()
        self.now = 0.0
        self.writer = StreamWriter(self.log, keep_seconds=60, now=lambda: self.now)
        self.stream = self.opened()

    def opened(self, last_id: int = 1) -> LiveStream:
        return LiveStream(RUN, self.writer.enqueue, last_id=last_id, is_resumed=False, after_wait=False)

    async def say(self, *words: str, stream: LiveStream | None = None) -> None:
        """Each in a batch of its own; returns when readers here were told."""
        stream = stream or self.stream
        for word in words:
            stream.publish(word if word.startswith("run.") else "message.delta", word.encode())
            async with asyncio.timeout(10):
                while not stream.has(stream.last_id - 1):
                    await asyncio.sleep(0)

    async def look_later(self) -> None:
        self.now += 2
        self.writer.look_again()
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    scene.writer.start()
    yield scene
    await scene.writer.close()


async def test_what_was_said_while_the_log_was_away_is_handed_to_it(scene: Scene) -> None:
    await scene.say("a")
    scene.log.is_away = True
    await scene.say("b", "c")
    scene.log.is_away = False
    scene.now += 2
    await scene.say("d")
    assert scene.log.events == list(scene.stream.delivered)
    assert scene.log.numbers == [2, 3, 4, 5]


async def test_nothing_new_has_to_be_said_for_it(scene: Scene) -> None:
    scene.log.is_away = True
    await scene.say("a")
    scene.log.is_away = False
    await scene.look_later()
    assert scene.log.numbers == [2]


async def test_what_was_taken_without_an_answer_is_not_taken_for_anothers(scene: Scene) -> None:
    scene.log.loses_answers = True
    await scene.say("a")
    scene.log.loses_answers = False
    scene.now += 2
    await scene.say("b")
    assert scene.log.numbers == [2, 3]
    assert not scene.stream.ended


async def test_a_log_that_came_back_empty_is_filled_from_the_start(scene: Scene) -> None:
    await scene.say("a", "b")
    scene.log.is_away = True
    await scene.say("c")
    scene.log.events.clear()
    scene.log.is_away = False
    await scene.look_later()
    assert scene.log.numbers == [2, 3, 4]


async def test_a_run_that_ended_meanwhile_is_told_to_its_end_and_then_forgotten(scene: Scene) -> None:
    scene.log.is_away = True
    await scene.say("a", "run.completed")
    scene.log.is_away = False
    await scene.look_later()
    assert scene.log.numbers == [2, 3]
    assert scene.log.kept_for == [RUN]


async def test_a_run_that_another_process_has_by_now_is_left_to_it(scene: Scene) -> None:
    scene.log.is_away = True
    await scene.say("a")
    scene.stream.end()
    scene.log.is_away = False
    await scene.look_later()
    assert scene.log.events == []


async def test_who_finds_another_writer_there_ends(scene: Scene) -> None:
    scene.log.is_away = True
    await scene.say("ours")
    scene.log.is_away = False
    scene.log.events.append(RunEvent(2, "message.delta", b"theirs"))
    await scene.look_later()
    assert scene.log.events == [RunEvent(2, "message.delta", b"theirs")]
    assert scene.stream.ended
    assert not scene.stream.is_logged


async def test_a_hole_that_cannot_be_filled_leaves_our_readers_alone(scene: Scene) -> None:
    await scene.say("a")
    scene.log.is_away = True
    await scene.say("b", "c")
    scene.log.events.append(scene.stream.delivered[-1])
    scene.log.is_away = False
    await scene.look_later()
    await scene.say("d")
    assert scene.log.numbers == [2, 4]
    assert not scene.stream.ended
    assert [event.data for event in scene.stream.delivered] == [b"a", b"b", b"c", b"d"]


async def test_a_log_that_is_full_is_not_asked_for_every_event(scene: Scene) -> None:
    scene.log.is_full = True
    await scene.say("a")
    await scene.say("b")
    asked = scene.log.asked
    await scene.say(*"cdefgh")
    assert scene.log.asked == asked
    scene.log.is_full = False
    await scene.look_later()
    assert scene.log.numbers == [2, 3, 4, 5, 6, 7, 8, 9]


async def test_what_is_no_longer_kept_here_is_not_owed(scene: Scene) -> None:
    scene.log.is_away = True
    await scene.say("a", "run.completed")
    scene.writer.forget(scene.stream)
    scene.log.is_away = False
    await scene.look_later()
    assert scene.log.events == []
