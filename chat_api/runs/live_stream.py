"""The events of one run that this process executes, as its readers here are told them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from chat_api.runs.events import RunEvent


class LiveStream:
    """Created by `RunStreams.open`.

    `is_resumed`: another attempt may have written to the log before. `after_wait`: the last that its readers were told
    is that the run waits. `is_logged`: the shared log has its events, or will have them.
    """

    def __init__(
        self,
        run_id: UUID,
        hand_over: Callable[[LiveStream, RunEvent], None],
        *,
        last_id: int,
        is_resumed: bool,
        after_wait: bool,
    ) -> None:
        self.run_id = run_id
        self.is_resumed = is_resumed
        self.after_wait = after_wait
        self.is_logged = True
        self.ended = False
        self._hand_over = hand_over
        self._first_id = last_id + 1
        self._last_id = last_id
        self._events: list[RunEvent] = []
        self._changed = asyncio.Event()

    @property
    def last_id(self) -> int:
        """Number of the last event that was published, delivered or not."""
        return self._last_id

    def publish(self, kind: str, data: bytes) -> None:
        """Number an event and hand it to the log; it reaches readers once the log has it."""
        self._last_id += 1
        self._hand_over(self, RunEvent(self._last_id, kind, data))

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

    @property
    def delivered(self) -> Sequence[RunEvent]:
        """All that was told here, without gaps."""
        return self._events

    @property
    def told_its_end(self) -> bool:
        return bool(self._events) and self._events[-1].is_terminal

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
