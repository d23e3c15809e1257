"""A model that follows a script, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from agent_service.domain.turn import ModelCall, ModelEvent

ModelStep = ModelEvent | float | Exception
"""What the fake does next: say something, wait so many seconds, or fail."""


@dataclass
class FakeChatModel:
    """A `ChatModel` that follows one script per call, the last one for ever."""

    scripts: list[list[ModelStep]]
    calls: list[ModelCall] = field(default_factory=list)
    closed: int = 0

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        self.calls.append(call)
        try:
            for step in self.scripts[min(len(self.calls), len(self.scripts)) - 1]:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed += 1

    async def aclose(self) -> None: ...
