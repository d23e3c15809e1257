"""Does what is to be done with the calls of one round: those that may run do so at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import replace
from typing import Any, assert_never

from agent_service.application.call_history import result_line
from agent_service.application.model_reader import WakeUp
from agent_service.application.open_calls import Run, Step, Tell, Wait
from agent_service.application.run_tools import ToolRun, ToolRunner
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.domain.problems import AgentRestarting
from agent_service.domain.turn import Line
from agent_service.ports.tools import ToolContext
from shared.contracts.tools import MAX_RESULT_CHARACTERS, ToolResultEvent, changed
from shared.logging import request_id_var

_A_WHILE = 3600.0
_MAX_CHANGE_CHARACTERS = 4_096
_REDACTED = "[redacted]"


class TurnTools:
    """What turns do with tools: there are those of the `catalog`, and `settle` has them run."""

    def __init__(self, catalog: ToolCatalog, runner: ToolRunner) -> None:
        self.catalog = catalog
        self._runner = runner

    async def settle(
        self, steps: Sequence[Step], context: ToolContext, wake_up: WakeUp, results: dict[str, Line]
    ) -> AsyncGenerator[ToolResultEvent]:
        """An event for each call that is over, as it ends; `results` gets what the model is told of it, by its id.

        Raises `AgentRestarting` when it is interrupted. Closing it cancels what still runs.
        """
        if wake_up.interrupted:
            raise AgentRestarting  # before anything begins that may not be begun twice
        running = _Running(wake_up)
        try:
            for step in steps:
                if isinstance(step, Run):
                    running.start(step, self._runner.run(step.tool, step.arguments, context))
            for step in steps:
                match step:
                    case Tell():
                        results[step.call.id] = result_line(step.call, step.content)
                        yield _told(step)
                    case Run() | Wait():
                        pass
                    case _:
                        assert_never(step)
            while running:
                event, line = _outcome(*await running.next())
                results[event.call_id] = line
                yield event
        finally:
            await running.aclose()


class _Running:
    """Tools that run at the same time. True while there are results to come."""

    def __init__(self, wake_up: WakeUp) -> None:
        self._wake_up = wake_up
        self._steps: dict[asyncio.Task[ToolRun], Run] = {}
        self._ended: deque[asyncio.Task[ToolRun]] = deque()

    def __bool__(self) -> bool:
        return bool(self._steps)

    def start(self, step: Run, work: Coroutine[Any, Any, ToolRun]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._steps[task] = step
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[ToolRun]) -> None:
        self._ended.append(task)
        self._wake_up.wake()

    async def next(self) -> tuple[Run, ToolRun]:
        """The first that has ended, of those that were not asked for yet. Raises `AgentRestarting`."""
        while not self._ended:
            if self._wake_up.interrupted:
                raise AgentRestarting
            await self._wake_up.sleep(asyncio.get_running_loop().time() + _A_WHILE, for_text=False)
        task = self._ended.popleft()
        return self._steps.pop(task), task.result()

    async def aclose(self) -> None:
        """Cancel what still runs, and wait for it: no longer than the runner waits for a tool that heeds nothing."""
        for task in self._steps:
            task.cancel()
        if self._steps:
            await asyncio.wait(self._steps)


def _told(step: Tell) -> ToolResultEvent:
    return ToolResultEvent(
        call_id=step.call.id,
        outcome=step.outcome,
        content=step.content,
        problem=None if step.problem is None else step.problem.document(request_id_var.get()),
        attempts=0,
        duration_ms=0,
    )


def _outcome(step: Run, run: ToolRun) -> tuple[ToolResultEvent, Line]:
    content = run.content
    if step.is_changed:
        content = (_change(step.arguments, step.tool.spec.redacted_arguments) + content)[:MAX_RESULT_CHARACTERS]
    event = ToolResultEvent(
        call_id=step.call.id,
        outcome=run.outcome,
        content=content,
        passages=list(run.passages),
        problem=None if run.problem is None else run.problem.document(request_id_var.get()),
        attempts=run.attempts,
        duration_ms=run.duration_ms,
    )
    return event, replace(result_line(step.call, content), passages=run.passages)


def _change(arguments: dict[str, Any], redacted: frozenset[str]) -> str:
    """What the model is told of a person's change. It stands in the log as well, so some of it must not be shown."""
    told = changed({name: _REDACTED if name in redacted else value for name, value in arguments.items()})
    return told if len(told) <= _MAX_CHANGE_CHARACTERS else changed({"…": "too long to be shown"})
