"""The live streams of a process at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from uuid import UUID, uuid4

import pytest

from chat_api.runs.events import RunEvent
from chat_api.runs.models import RunStatus
from chat_api.runs.repository import RunState
from chat_api.runs.stream_log import Entry, Kept, NoStreamLog
from chat_api.runs.streams import RunStreams, snapshot, unbroken


class SlowLog(NoStreamLog):
    """Takes what it is given when it is let, and counts who breaks off or does not wait for its turn."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.asked = asyncio.Event()
        self.taken: list[bytes] = []
        self.cut_off = 0
        self.at_once = 0
        self.most_at_once = 0

    async def append(self, entries: Sequence[Entry]) -> list[Kept]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.asked.set()
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        finally:
            self.at_once -= 1
        self.taken.extend(event.data for _, event, _ in entries)
        return [Kept.YES] * len(entries)


class NoRuns:
    async def state(self, run_id: UUID) -> RunState | None:
        return None

    async def status(self, run_id: UUID) -> RunStatus | None:
        return None


async def test_closing_lets_the_log_finish_and_hands_it_the_rest_in_order() -> None:
    log = SlowLog()
    streams = RunStreams(log, NoRuns(), keep_seconds=60, idle_seconds=1)
    streams.start()
    stream = await streams.open(uuid4(), resumed=False)
    stream.publish("message.delta", b"first")
    await log.asked.wait()
    stream.publish("message.delta", b"second")
    closing = asyncio.create_task(streams.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    log.may_go_on.set()
    await asyncio.wait_for(closing, 30)
    assert log.taken == [b"first", b"second"]
    assert (log.cut_off, log.most_at_once) == (0, 1)


class Runs:
    """One run, as it stands. `asked` counts who looks."""

    def __init__(self, status: RunStatus, stream_length: int) -> None:
        self.now = RunState(uuid4(), uuid4(), status, stream_length, b"{}", b"{}", b"{}")
        self.asked = 0

    async def state(self, run_id: UUID) -> RunState | None:
        return self.now

    async def status(self, run_id: UUID) -> RunStatus | None:
        self.asked += 1
        return self.now.status


def numbers(batch: list[RunEvent]) -> list[int]:
    return [event.id for event in batch]


def test_a_run_that_waits_is_told_whole_and_once() -> None:
    waiting = Runs(RunStatus.AWAITING_APPROVAL, 9).now
    assert numbers(snapshot(waiting, 4)) == [8, 9]
    assert numbers(snapshot(waiting, 8)) == [9]
    assert snapshot(waiting, 9) == snapshot(waiting, 12) == []


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING])
def test_a_run_that_went_on_a_moment_ago_has_no_end_to_tell(status: RunStatus) -> None:
    assert snapshot(Runs(status, 0).now, 4) == []


class HoledLog(NoStreamLog):
    """Was away when events 4 and 5 were said."""

    async def read(self, run_id: UUID, after: int, *, wait_seconds: float) -> list[RunEvent] | None:
        return [RunEvent(number, "message.delta", b"{}") for number in (2, 3, 6, 7) if number > after]


async def test_what_comes_after_a_hole_is_not_told_as_if_there_was_none() -> None:
    streams = RunStreams(HoledLog(), Runs(RunStatus.COMPLETED, 9), keep_seconds=60, idle_seconds=1)
    async with asyncio.timeout(30), aclosing(streams.follow(uuid4(), 1)) as batches:
        told = [event for batch in [batch async for batch in batches] for event in batch]
    assert numbers(told) == [2, 3, 8, 9]
    assert [event.type for event in told[2:]] == ["message.updated", "run.completed"]


async def test_who_may_skip_is_told_what_comes_after_a_hole() -> None:
    streams = RunStreams(HoledLog(), Runs(RunStatus.RUNNING, 0), keep_seconds=60, idle_seconds=1)
    async with asyncio.timeout(30), aclosing(streams.follow(uuid4(), 3, may_skip=True)) as batches:
        assert numbers(await anext(batches)) == [6, 7]


@pytest.mark.parametrize(("after", "whole"), [(1, [2, 3]), (2, [3]), (3, []), (5, [6, 7]), (7, [])])
async def test_only_what_follows_without_a_gap_is_unbroken(after: int, whole: list[int]) -> None:
    assert numbers(unbroken(await HoledLog().read(uuid4(), after, wait_seconds=0) or [], after)) == whole


async def test_nobody_asks_without_a_pause_whether_a_run_still_waits() -> None:
    runs = Runs(RunStatus.AWAITING_APPROVAL, 9)
    streams = RunStreams(NoStreamLog(), runs, keep_seconds=60, idle_seconds=0.05)
    async with aclosing(streams.follow(uuid4(), 9)) as batches:
        assert await anext(batches) == []
    assert runs.asked == 1


async def test_who_may_skip_hears_a_run_that_goes_on_after_its_stream_was_forgotten() -> None:
    streams = RunStreams(NoStreamLog(), Runs(RunStatus.RUNNING, 0), keep_seconds=60, idle_seconds=1)
    streams.start()
    run_id = uuid4()
    stream = await streams.open(run_id, resumed=True, at_least=9)
    stream.publish("run.started", b"{}")
    async with asyncio.timeout(30), aclosing(streams.follow(run_id, 3, may_skip=True)) as batches:
        assert numbers(await anext(batches)) == [10]
    await streams.close()


async def test_a_run_that_goes_on_at_once_comes_after_all_that_was_said_of_its_wait() -> None:
    log = SlowLog()
    streams = RunStreams(log, NoRuns(), keep_seconds=60, idle_seconds=1)
    streams.start()
    run_id = uuid4()
    earlier = await streams.open(run_id, resumed=False)
    earlier.publish("run.awaiting_approval", b"waits")
    await log.asked.wait()
    opening = asyncio.create_task(streams.open(run_id, resumed=True, at_least=earlier.last_id))
    await asyncio.sleep(0.01)
    assert not opening.done()
    log.may_go_on.set()
    later = await asyncio.wait_for(opening, 30)
    later.publish("run.started", b"goes on")
    await streams.close()
    assert log.taken == [b"waits", b"goes on"]


async def test_closing_ends_where_nothing_was_said() -> None:
    streams = RunStreams(NoStreamLog(), NoRuns(), keep_seconds=60, idle_seconds=1)
    await streams.close()
    streams.start()
    await asyncio.wait_for(streams.close(), 30)
