"""The live streams of runs in this process, and the one way to follow any run from anywhere."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from itertools import takewhile
from typing import Protocol
from uuid import UUID

from chat_api.kit.db import is_store_down
from chat_api.runs.events import FIRST_STREAMED_ID, WAITING, RunEvent, terminal_type
from chat_api.runs.live_stream import LiveStream
from chat_api.runs.models import FINAL_STATUSES, RunStatus
from chat_api.runs.repository import RunState
from chat_api.runs.stream_log import StreamLog
from chat_api.runs.stream_writer import StreamWriter

_ENDED_STREAMS_KEPT = 200
_POLL_SECONDS = 0.5
_LAST_CHANCE_SECONDS = 0.25


class RunStates(Protocol):
    """Where the truth about a run is read."""

    async def state(self, run_id: UUID) -> RunState | None: ...

    async def status(self, run_id: UUID) -> RunStatus | None: ...


class RunStreams:
    """One per process. `start` it before use, `close` it at the end."""

    def __init__(self, log: StreamLog, states: RunStates, *, keep_seconds: int, idle_seconds: float) -> None:
        self._log = log
        self._writer = StreamWriter(log, keep_seconds=keep_seconds)
        self._idle_seconds = idle_seconds
        self._states = states
        self._keep_seconds = keep_seconds
        self._live: dict[UUID, LiveStream] = {}
        self._ended: OrderedDict[UUID, LiveStream] = OrderedDict()
        self._closing = asyncio.Event()
        self._tick: asyncio.Task[None] | None = None

    @property
    def live(self) -> list[LiveStream]:
        """Of the runs that this process executes now."""
        return list(self._live.values())

    def start(self) -> None:
        self._writer.start()
        self._tick = asyncio.create_task(self._tick_for_ever(), name="run-streams-tick")

    def stop_following(self) -> None:
        """End every reader, so that its client goes to another process. Idempotent."""
        self._closing.set()
        for stream in self.live:
            stream.end()

    async def close(self) -> None:
        """Hand the log what is left, and stop."""
        self.stop_following()
        await self._writer.close()
        if self._tick is not None:
            self._tick.cancel()
            await asyncio.gather(self._tick, return_exceptions=True)

    async def open(self, run_id: UUID, *, resumed: bool, at_least: int | None = None) -> LiveStream:
        """The stream of a run that starts here. A resumed one goes on after what the log already has.

        `at_least` is a number that its events have reached, for a log that is no longer kept.
        """
        last_id, after_wait = FIRST_STREAMED_ID - 1, False
        earlier = self._live.get(run_id)
        if earlier is not None:
            await self._handed_over(earlier)
        if resumed:
            events = await self.logged(run_id)
            last_id = max([last_id, at_least or 0, *(event.id for event in events)])
            after_wait = bool(events) and events[-1].type == WAITING
        stream = LiveStream(run_id, self._writer.enqueue, last_id=last_id, is_resumed=resumed, after_wait=after_wait)
        self._live[run_id] = stream
        return stream

    async def logged(self, run_id: UUID) -> list[RunEvent]:
        """What the shared log has of a run, as far as it can be read."""
        events: list[RunEvent] = []
        while True:
            after = events[-1].id if events else FIRST_STREAMED_ID - 1
            found = await self._log.read(run_id, after, wait_seconds=0.001)
            if not found:
                return events
            events.extend(found)

    async def retire(self, stream: LiveStream) -> None:
        """The run ended here, or is no longer ours. Its readers get what is pending, then its end."""
        await self._handed_over(stream)
        stream.end()
        if self._live.get(stream.run_id) is stream:
            del self._live[stream.run_id]
        self._ended[stream.run_id] = stream
        if len(self._ended) > _ENDED_STREAMS_KEPT:
            _, forgotten = self._ended.popitem(last=False)
            self._writer.forget(forgotten)
        await self._log.keep_for(stream.run_id, self._keep_seconds)

    async def _handed_over(self, stream: LiveStream) -> None:
        """Return when the log has what was published: after that, whoever goes on numbers from there."""
        # Once this process has closed its streams, nobody hands over any more.
        while self._writer.is_running and not stream.has(stream.last_id - 1):
            await stream.change()

    async def seal(self, run_id: UUID) -> list[RunEvent]:
        """What the log has of a run whose process was thought dead; it can add nothing any more."""
        await self._log.seal(run_id)
        return await self.logged(run_id)

    async def conclude(self, run_id: UUID, last_id: int, closing: list[RunEvent]) -> None:
        """Add the last events of a run that ended without being live here, after number `last_id`."""
        await self._log.conclude(run_id, last_id, closing, seconds=self._keep_seconds)

    async def follow(self, run_id: UUID, after: int, *, may_skip: bool = False) -> AsyncGenerator[list[RunEvent]]:
        """Every event after number `after`, in order, in batches as they come, up to the terminal one.

        `after` is 1 or more. An empty batch means that nothing came for `idle_seconds`. Ends early, without
        a terminal event, when this process shuts down. Who `may_skip` wants what comes now, also where what came
        before is no longer kept: of a run that waited for long.
        """
        last_batch_at = time.monotonic()
        batch: list[RunEvent] = []
        while not self._closing.is_set():
            stream = self._live.get(run_id) or self._ended.get(run_id)
            if stream is not None and may_skip:
                after = max(after, stream.begins_after)
            if stream is not None and stream.can_tell(after):
                batch = await self._read_here(stream, after)
            else:
                # It may have ended here without a terminal event: given back, or taken over by another process.
                batch = await self._read_elsewhere_patiently(run_id, after, flowing=bool(batch), may_skip=may_skip)
            if batch or time.monotonic() - last_batch_at >= self._idle_seconds:
                yield batch
                last_batch_at = time.monotonic()
            if batch:
                after = batch[-1].id
                if batch[-1].is_terminal:
                    return

    async def _read_here(self, stream: LiveStream, after: int) -> list[RunEvent]:
        if not stream.has(after):
            await stream.change()
        return stream.since(after)

    async def _read_elsewhere_patiently(
        self, run_id: UUID, after: int, *, flowing: bool, may_skip: bool
    ) -> list[RunEvent]:
        """A reader outlives a restart of PostgreSQL: its answer has begun, so it could only break off."""
        try:
            return await self._read_elsewhere(run_id, after, flowing=flowing, may_skip=may_skip)
        except Exception as error:
            if not is_store_down(error):
                raise
            await asyncio.sleep(_POLL_SECONDS)
            return []

    async def _read_elsewhere(self, run_id: UUID, after: int, *, flowing: bool, may_skip: bool) -> list[RunEvent]:
        """What the shared log has, or the end of the story from PostgreSQL where the log is not kept."""
        if flowing:
            # As long as events come, nobody need ask PostgreSQL whether the run goes on.
            found = await self._log.read(run_id, after, wait_seconds=_POLL_SECONDS)
            if found and (following := found if may_skip else unbroken(found, after)):
                return following
        status = await self._states.status(run_id)
        ended = status is None or status in FINAL_STATUSES or status is RunStatus.AWAITING_APPROVAL
        # The terminal event follows the commit by a moment, so the log gets a last chance.
        found = await self._log.read(run_id, after, wait_seconds=_LAST_CHANCE_SECONDS if ended else _POLL_SECONDS)
        if found and (following := found if may_skip else unbroken(found, after)):
            return following
        if not ended:
            if found is None or found:
                # The log is away, or has a hole here: reading it again will not wait by itself.
                await asyncio.sleep(_POLL_SECONDS)
            return []
        state = await self._states.state(run_id)
        told = snapshot(state, after) if state is not None else [gone(after)]
        if not told:
            await asyncio.sleep(_POLL_SECONDS)
        return told

    async def _tick_for_ever(self) -> None:
        """One clock for all readers, so that they notice silence without a timer for every batch."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 3))
            for stream in self.live:
                stream.wake()
            self._writer.look_again()


def unbroken(events: list[RunEvent], after: int) -> list[RunEvent]:
    """What follows event `after` without a gap: where the log was away for a while, what comes later is no answer."""
    expected = range(after + 1, after + 1 + len(events))
    return [event for event, _ in takewhile(lambda pair: pair[0].id == pair[1], zip(events, expected, strict=True))]


def snapshot(state: RunState, after: int) -> list[RunEvent]:
    """The whole reply and the terminal event, for a reader whose deltas are no longer kept.

    Nothing for one who knows already that the run waits: the next event comes when it goes on. Nor when it went on a
    moment ago.
    """
    waits = state.status is RunStatus.AWAITING_APPROVAL
    if (waits and after >= state.stream_length) or not (waits or state.status in FINAL_STATUSES):
        return []
    if state.reply is None or after == state.stream_length - 1:
        return [RunEvent(max(state.stream_length, after + 1), terminal_type(state.status), state.run)]
    last_id = max(state.stream_length, after + 2)
    return [
        RunEvent(last_id - 1, "message.updated", state.reply),
        RunEvent(last_id, terminal_type(state.status), state.run),
    ]


def gone(after: int) -> RunEvent:
    """The session was deleted while its run was followed."""
    return RunEvent(after + 1, "run.cancelled", b'{"deleted": true}')
