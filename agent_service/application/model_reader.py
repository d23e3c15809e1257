"""Reads a model's stream in a task of its own, so that text gathers while the turn paces its deltas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, assert_never

from agent_service.domain.problems import ModelProblem
from agent_service.domain.turn import CallWanted, Finished, ModelEvent, TextPiece, UsageReport
from shared.contracts.chat import FinishReason, Usage


class WakeUp:
    """What the turn sleeps on. One sleeper; a wake-up while nobody sleeps is not kept, an interruption is."""

    def __init__(self) -> None:
        self.interrupted = False
        self._loop = asyncio.get_running_loop()
        self._sleeper: asyncio.Future[None] | None = None
        self._for_text = False

    async def sleep(self, until: float, *, for_text: bool) -> None:
        """Until the loop's time is `until`, or the stream ends, or, if asked, until there is text."""
        sleeper = self._sleeper = self._loop.create_future()
        self._for_text = for_text
        alarm = self._loop.call_at(until, _wake, sleeper)
        try:
            await sleeper
        finally:
            alarm.cancel()
            self._sleeper = None

    async def watch(self, task: asyncio.Task[Any], until: float) -> None:
        """Until the task is done, or it is time, or something wakes the sleeper. The task is over afterwards."""
        task.add_done_callback(lambda _: self.wake())
        try:
            await self.sleep(until, for_text=False)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen, or asyncio would report it as lost

    def interrupt(self) -> None:
        self.interrupted = True
        self.wake()

    def text_came(self) -> None:
        if self._for_text:
            self.wake()

    def wake(self) -> None:
        if self._sleeper is not None:
            _wake(self._sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class ModelReader:
    """What one call to the model has said so far. `error` is set when it ended badly.

    Raises from `aclose` what the model raised besides a `ModelProblem`: that is a defect of ours.
    """

    def __init__(self, events: AsyncGenerator[ModelEvent], wake_up: WakeUp) -> None:
        self.usage: Usage | None = None
        self.calls: list[CallWanted] = []
        self.finish: FinishReason | None = None
        self.error: ModelProblem | None = None
        self.over = False
        self._text: list[str] = []
        self._events = events
        self._wake_up = wake_up
        self._loop = asyncio.get_running_loop()
        self.last_heard = self._loop.time()
        self.has_spoken = False
        self._task = self._loop.create_task(self._read())

    @property
    def has_text(self) -> bool:
        return bool(self._text)

    def take_text(self) -> str:
        text = self._text[0] if len(self._text) == 1 else "".join(self._text)
        self._text.clear()
        return text

    async def aclose(self) -> None:
        """Stop reading and wait until the connection to the model is closed."""
        self._task.cancel()
        # Awaiting it directly would mistake its cancellation for ours.
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def _read(self) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    self._hear(event)
        except ModelProblem as problem:
            self.error = problem
        finally:
            self.over = True
            self._wake_up.wake()

    def _hear(self, event: ModelEvent) -> None:
        self.last_heard = self._loop.time()
        self.has_spoken = True
        match event:
            case TextPiece(text=text):
                if text:  # an empty one says no more than that the model is at work
                    self._text.append(text)
                    self._wake_up.text_came()
            case CallWanted():
                self.calls.append(event)
            case UsageReport(usage=usage):
                self.usage = usage
            case Finished(reason=reason):
                self.finish = reason
            case _:
                assert_never(event)
