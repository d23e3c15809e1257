"""The live streams of a process at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from chat_api.runs.events import RunEvent
from chat_api.runs.models import RunStatus
from chat_api.runs.repository import RunState
from chat_api.runs.stream_log import Kept, NoStreamLog
from chat_api.runs.streams import RunStreams


class SlowLog(NoStreamLog):
    """Takes what it is given when it is let, and counts who breaks off or does not wait for its turn."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.asked = asyncio.Event()
        self.taken: list[bytes] = []
        self.cut_off = 0
        self.at_once = 0
        self.most_at_once = 0

    async def append(self, entries: Sequence[tuple[UUID, RunEvent]]) -> list[Kept]:
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
        self.taken.extend(event.data for _, event in entries)
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
    await asyncio.wait_for(closing, 1)
    assert log.taken == [b"first", b"second"]
    assert (log.cut_off, log.most_at_once) == (0, 1)


async def test_closing_ends_where_nothing_was_said() -> None:
    streams = RunStreams(NoStreamLog(), NoRuns(), keep_seconds=60, idle_seconds=1)
    await streams.close()
    streams.start()
    await asyncio.wait_for(streams.close(), 1)
