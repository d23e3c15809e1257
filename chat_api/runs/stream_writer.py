"""Hands the events of this process's runs to the shared log, in order, and then to the readers here.

A reader is told an event only after the log took it, or is known to be away: what was told here, another replica can
tell again, even if this process dies the next moment. What the log did not take is owed to it, and handed to it when
it answers again, so that a Valkey that was away for a moment costs readers on other replicas that moment and no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

from chat_api.runs.events import RunEvent
from chat_api.runs.live_stream import LiveStream
from chat_api.runs.stream_log import Entry, Kept, StreamLog
from shared.logging import get_logger

log = get_logger("runs.stream")

_PAY_AGAIN_SECONDS = 1.0


class StreamWriter:
    """One per process. `start` it before use, `close` it at the end."""

    def __init__(self, log: StreamLog, *, keep_seconds: int, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._keep_seconds = keep_seconds
        self._pending: list[tuple[LiveStream, RunEvent]] = []
        self._owing: dict[UUID, LiveStream] = {}
        self._pay_after = 0.0
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_running = False

    def start(self) -> None:
        self.is_running = True
        self._task = asyncio.create_task(self._run(), name="run-streams")

    async def close(self) -> None:
        """Hand the log what is left, and stop."""
        # Not cancelled: a command that is cut half-way costs its connection, and what it kept is not known.
        self.is_running = False
        self._wakeup.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    def enqueue(self, stream: LiveStream, event: RunEvent) -> None:
        self._pending.append((stream, event))
        self._wakeup.set()

    def look_again(self) -> None:
        """Try to pay what is owed, also where no event comes that would make us."""
        if self._owing:
            self._wakeup.set()

    def forget(self, stream: LiveStream) -> None:
        """Its events are no longer kept here; what is owed of them stays so."""
        if self._owing.get(stream.run_id) is stream:
            del self._owing[stream.run_id]

    async def _run(self) -> None:
        while self.is_running:
            await self._wakeup.wait()
            self._wakeup.clear()
            await self._flush()

    async def _flush(self) -> None:
        batch, self._pending = self._pending, []
        await self._pay()
        # After a hole the log of a run would lie, so what comes after it waits until the hole is filled.
        handed = [(stream, event) for stream, event in batch if stream.is_logged and not self._owes(stream)]
        results = await self._log.append([_entry(*each) for each in handed]) if handed else []
        for (stream, _), result in zip(handed, results, strict=True):
            if result is Kept.AWAY and stream.is_logged:
                self._owing[stream.run_id] = stream
            elif result is Kept.NUMBER_TAKEN:
                self._give_up(stream, is_ours=False)
        for stream, event in batch:
            if not stream.ended:
                stream.deliver(event)

    def _owes(self, stream: LiveStream) -> bool:
        return self._owing.get(stream.run_id) is stream

    async def _pay(self) -> None:
        """Hand the log what it did not take, run by run, for as long as it answers."""
        if self._now() < self._pay_after:
            return
        for stream in list(self._owing.values()):
            if stream.ended and not stream.told_its_end:
                # Given back, or taken from us: who has the run now numbers from what the log has.
                self._give_up(stream, is_ours=True)
            elif not await self._pay_for(stream):
                # One that is full answers at once: it is not to be handed everything again with each event.
                self._pay_after = self._now() + _PAY_AGAIN_SECONDS
                return

    async def _pay_for(self, stream: LiveStream) -> bool:
        """False where the log is still away."""
        # A command that timed out may have been done all the same, and a server that came back may have forgotten.
        kept = await self._log.recall(stream.run_id, stream.begins_after)
        if kept is None:
            return False
        told = list(stream.delivered)
        if kept != told[: len(kept)]:
            ours = {event.id: event for event in told}
            self._give_up(stream, is_ours=all(ours.get(event.id) == event for event in kept))
            return True
        results = await self._log.append([_entry(stream, event) for event in told[len(kept) :]])
        if Kept.NUMBER_TAKEN in results:
            self._give_up(stream, is_ours=False)
            return True
        if Kept.AWAY in results:
            return False
        self.forget(stream)
        if stream.ended:
            await self._log.keep_for(stream.run_id, self._keep_seconds)
        return True

    def _give_up(self, stream: LiveStream, *, is_ours: bool) -> None:
        """The log takes nothing of this stream any more: it has a hole, or another process writes there."""
        if not stream.is_logged:
            return
        stream.is_logged = False
        self.forget(stream)
        log.info("stream.given_up", run_id=str(stream.run_id), last_id=stream.last_id, is_ours=is_ours)
        if not is_ours:
            # The run was taken from us, and our readers have to hear it from who has it now.
            stream.end()


def _entry(stream: LiveStream, event: RunEvent) -> Entry:
    return Entry(stream.run_id, event, reopens=stream.is_resumed and event.id == stream.begins_after + 1)
