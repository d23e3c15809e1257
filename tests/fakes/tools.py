"""Tools that do as they are told, and sources that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from agent_service.application.metrics import ToolMetrics
from agent_service.application.run_tools import ToolLimits, ToolRunner
from agent_service.application.settle_calls import TurnTools
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.ports.tools import BUILTIN, Tool, ToolContext, ToolOutput, ToolSource, ToolSpec
from shared.contracts.tools import ToolRisk, ToolSourceRead, ToolSourceState

ANYTHING: dict[str, Any] = {"type": "object"}
WITH_QUERY: dict[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "maxLength": 20}},
    "required": ["query"],
    "additionalProperties": False,
}

Answer = str | ToolOutput | BaseException | float
"""What a call comes to: words, or something raised; a number is so many seconds before the next."""


@dataclass
class FakeTool:
    """A `Tool` that follows one script per call, the last one for ever, and counts what became of its calls.

    `stubborn` is how many seconds it goes on after it was cancelled.
    """

    name: str = "look"
    scripts: Sequence[Sequence[Answer]] = (("found",),)
    risk: ToolRisk = ToolRisk.SAFE
    repeatable: bool = True
    parameters: dict[str, Any] = field(default_factory=lambda: ANYTHING)
    timeout_seconds: float = 5.0
    source: str = BUILTIN
    redacted_arguments: frozenset[str] = frozenset()
    redact_result: bool = False
    stubborn: float = 0.0
    calls: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[ToolContext] = field(default_factory=list)
    cancelled: int = 0

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(
            name=self.name,
            title=self.name.title(),
            description=f"What {self.name} does.",
            source=self.source,
            risk=self.risk,
            repeatable=self.repeatable,
            parameters=self.parameters,
            timeout_seconds=self.timeout_seconds,
            redacted_arguments=self.redacted_arguments,
            redact_result=self.redact_result,
        )

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        self.calls.append(arguments)
        self.contexts.append(context)
        try:
            return await self._follow(self.scripts[min(len(self.calls), len(self.scripts)) - 1])
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.stubborn:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(self.stubborn)
                return ToolOutput("too late")
            raise

    async def _follow(self, script: Sequence[Answer]) -> ToolOutput:
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                return ToolOutput(step) if isinstance(step, str) else step
        return ToolOutput("")


@dataclass
class FakeSource:
    """A `ToolSource` whose tools are those that the test puts there."""

    name: str = "mcp:harbour"
    offered: list[Tool] = field(default_factory=list)
    close_error: Exception | None = None
    started: int = 0
    closed: int = 0

    def tools(self) -> Sequence[Tool]:
        return self.offered

    def state(self) -> ToolSourceRead:
        return ToolSourceRead(
            name=self.name, state=ToolSourceState.READY, tools=len(self.offered), restarts=0, error=None
        )

    async def start(self) -> None:
        self.started += 1

    async def aclose(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


def turn_tools(
    *tools: Tool,
    sources: Sequence[ToolSource] = (),
    limits: ToolLimits | None = None,
    registry: CollectorRegistry | None = None,
) -> TurnTools:
    """What a turn needs to use these tools: a catalog of them, and a runner that hardly waits between attempts."""
    runner = ToolRunner(
        limits or ToolLimits(retry_base=0.001, cancel=0.05),
        ToolMetrics(registry or CollectorRegistry()),
        jitter=lambda: 1.0,
    )
    return TurnTools(ToolCatalog(tools, sources), runner)
