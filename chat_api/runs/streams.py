"""The live streams of runs in this process, and the one way to follow any run from anywhere.

An event is delivered here only after the shared log took it (or is known to be away), so that what a
reader was told is what another replica can tell it again, even if this process dies the next moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Protocol
from uuid import UUID

from chat_api.kit.db import is_store_down
from chat_api.runs.events import FIRST_STREAMED_ID, WAITING, RunEvent, terminal_type
from chat_api.runs.models import FINAL_STATUSES, RunStatus
from chat_api.runs.repository import RunState
from chat_api.runs.stream_log import Kept, StreamLog

_ENDED_STREAMS_KEPT = 200
_POLL_SECONDS = 0.5
_LAST_CHANCE_SECONDS = 0.25


class RunStates(Protocol):
    """Where the truth about a run is read."""

    async def state(self, run_id: UUID) -> RunState | None: ...

    async def status(self, run_id: UUID) -> RunStatus | None: ...


class LiveStream:
    """The events of one run that this process executes. Created by `RunStreams.open`.

    `after_wait`: the last that its readers were told is that the run waits.
    """

    def __init__(self, run_id: UUID, streams: RunStreams, *, last_id: int, after_wait: bool) -> None:
        self.run_id = run_id
        self.after_wait = after_wait
        self.kept = True
        self._streams = streams
        self._first_id = last_id + 1
        self._last_id = last_id
        self._events: list[RunEvent] = []
        self._changed = asyncio.Event()
        self.ended = False

    @property
    def last_id(self) -> int:
        """Number of the last event that was published, delivered or not."""
        return self._last_id

    def publish(self, kind: str, data: bytes) -> None:
        """Number an event and hand it to the log; it reaches readers once the log has it."""
        self._last_id += 1
        self._streams.enqueue(self, RunEvent(self._last_id, kind, data))

    def deliver(self, event: RunEvent) -> None:
        self._events.append(event)
        if event.is_terminal:
            self.ended = True
        self.wake()

    def end(self) -> None:
        """No more events will come from this process, with or without a terminal one."""
        self.ended = True
        self.wake()

    @property
    def begins_after(self) -> int:
        """Number of the last event that was told before this process had the run."""
        return self._first_id - 1

    def can_tell(self, after: int) -> bool:
        """Whether what follows event `after` is among ours, or may still come from here."""
        return after + 1 >= self._first_id and (not self.ended or after < self._first_id + len(self._events) - 1)

    def since(self, after: int) -> list[RunEvent]:
        return self._events[after + 1 - self._first_id :]

    def has(self, after: int) -> bool:
        """Whether there is an event after `after`, or none will ever come from here."""
        return self.ended or self._first_id + len(self._events) > after + 1

    async def change(self) -> None:
        """Return when something happened, or at the next tick."""
        await self._changed.wait()

    def wake(self) -> None:
        """Let the readers look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class RunStreams:
    """One per process. `start` it before use, `close` it at the end."""

    def __init__(self, log: StreamLog, states: RunStates, *, keep_seconds: int, idle_seconds: float) -> None:
        self._log = log
        self._idle_seconds = idle_seconds
        self._states = states
        self._keep_seconds = keep_seconds
        self._live: dict[UUID, LiveStream] = {}
        self._ended: OrderedDict[UUID, LiveStream] = OrderedDict()
        self._pending: list[tuple[LiveStream, RunEvent]] = []
        self._wakeup = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_pumping = False
        self._pump: asyncio.Task[None] | None = None
        self._tick: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._is_pumping = True
        self._pump = asyncio.create_task(self._run_pump(), name="run-streams")
        self._tick = asyncio.create_task(self._tick_for_ever(), name="run-streams-tick")

    def stop_following(self) -> None:
        """End every reader, so that its client goes to another process. Idempotent."""
        self._closing.set()
        for stream in [*self._live.values()]:
            stream.end()

    async def close(self) -> None:
        """Hand the log what is left, and stop."""
        self.stop_following()
        # Not cancelled: a command that is cut half-way costs its connection, and what it kept is not known.
        self._is_pumping = False
        self._wakeup.set()
        if self._pump is not None:
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._flush()
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
            # Whoever gave the run back may have sealed what its predecessor left.
            await self._log.reopen(run_id, last_id)
        stream = LiveStream(run_id, self, last_id=last_id, after_wait=after_wait)
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
            self._ended.popitem(last=False)
        await self._log.keep_for(stream.run_id, self._keep_seconds)

    async def _handed_over(self, stream: LiveStream) -> None:
        """Return when the log has what was published: after that, whoever goes on numbers from there."""
        # Once this process has closed its streams, nobody hands over any more.
        while self._is_pumping and not stream.has(stream.last_id - 1):
            await stream.change()

    async def seal(self, run_id: UUID) -> list[RunEvent]:
        """What the log has of a run whose process was thought dead; it can add nothing any more."""
        await self._log.seal(run_id)
        return await self.logged(run_id)

    async def conclude(self, run_id: UUID, last_id: int, closing: list[RunEvent]) -> None:
        """Add the last events of a run that ended without being live here, after number `last_id`."""
        await self._log.conclude(run_id, last_id, closing, seconds=self._keep_seconds)

    def enqueue(self, stream: LiveStream, event: RunEvent) -> None:
        self._pending.append((stream, event))
        self._wakeup.set()

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
            if found and (may_skip or found[0].id == after + 1):
                return found
        status = await self._states.status(run_id)
        ended = status is None or status in FINAL_STATUSES or status is RunStatus.AWAITING_APPROVAL
        # The terminal event follows the commit by a moment, so the log gets a last chance.
        found = await self._log.read(run_id, after, wait_seconds=_LAST_CHANCE_SECONDS if ended else _POLL_SECONDS)
        if found and (may_skip or found[0].id == after + 1):
            return found
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
            for stream in list(self._live.values()):
                stream.wake()

    async def _run_pump(self) -> None:
        while self._is_pumping:
            await self._wakeup.wait()
            self._wakeup.clear()
            await self._flush()

    async def _flush(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return
        kept = [(stream, event) for stream, event in batch if stream.kept]
        results = await self._log.append([(stream.run_id, event) for stream, event in kept]) if kept else []
        for (stream, _), result in zip(kept, results, strict=True):
            # After a hole the log of this run would lie, so it gets nothing more.
            stream.kept = stream.kept and result is Kept.YES
            if result is Kept.NUMBER_TAKEN:
                # The run was taken from us, and our readers have to hear it from who has it now.
                stream.end()
        for stream, event in batch:
            if not stream.ended:
                stream.deliver(event)


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
