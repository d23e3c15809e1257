"""Runs one call of a tool, and keeps what it may do within bounds: time, size, and how it fails.

A tool is a guest. It may hang, swallow its cancellation, answer with 100 MiB, or raise whatever it likes, and the
turn goes on: the model is told that the call failed, and the log the kind of error and where, never its text.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent_service.application.metrics import ToolMetrics
from agent_service.domain.text import plain_text
from agent_service.domain.tool_problems import ToolFailure, ToolOutcomeUnknown, ToolTimedOut
from agent_service.ports.tools import Tool, ToolContext, ToolFailed, ToolOutput, ToolSpec
from shared.contracts.knowledge import Passage
from shared.contracts.tools import MAX_RESULT_CHARACTERS, ToolOutcome, failure
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("tools")

MAX_PASSAGES = 50
"""As many as a message of a tool may hand back."""

_MAX_MESSAGE_CHARACTERS = 2_000
_MAYBE_DONE = "It may have done its work nevertheless."


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """All in seconds but `attempts`, which counts the first call too.

    `seconds` bounds one call of any tool with all of its attempts; a tool's own time, where shorter, comes before it.
    `retry_base` doubles with each attempt, and a random half of it is taken off.
    A tool that heeds no cancellation for `cancel` is left to itself.
    """

    seconds: float = 30.0
    attempts: int = 3
    retry_base: float = 0.2
    retry_max: float = 2.0
    cancel: float = 0.5


@dataclass(frozen=True, slots=True)
class ToolRun:
    """How a call ended. `content` is what the model is told, also where it failed; then `problem` says why."""

    outcome: ToolOutcome
    content: str
    passages: tuple[Passage, ...]
    problem: Problem | None
    attempts: int
    duration_ms: int


class ToolRunner:
    """Runs tools whose arguments are known to fit; `tool_arguments.check_arguments` says whether they do."""

    def __init__(
        self, limits: ToolLimits, metrics: ToolMetrics, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._jitter = jitter
        self._left_alone: set[asyncio.Task[ToolOutput]] = set()

    @property
    def left_alone(self) -> int:
        """Calls that heeded no cancellation and still run."""
        return len(self._left_alone)

    async def run(self, tool: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolRun:
        """Never raises for what the tool does. Cancelling it cancels the tool."""
        spec = tool.spec
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + min(spec.timeout_seconds, self._limits.seconds)
        attempt = 1
        output: ToolOutput | Problem
        while True:
            try:
                output = await self._attempt(tool, arguments, context, deadline)
                break
            except ToolFailed as error:
                pause = self._pause_before_retry(spec, error, attempt)
                if pause is None or loop.time() + pause >= deadline:
                    output = _problem_of(error, spec)
                    break
            except TimeoutError:
                output = _timed_out(spec, deadline - started)
                break
            log.info("tool.retry", tool=spec.name, source=spec.source, attempt=attempt)
            await asyncio.sleep(pause)
            attempt += 1
        run = _run(output, attempt, round((loop.time() - started) * 1000))
        self._metrics.ran(spec, run.outcome, loop.time() - started)
        log.info(
            "tool.ran",
            tool=spec.name,
            source=spec.source,
            run_id=str(context.run_id),
            outcome=run.outcome.value,
            code=None if run.problem is None else run.problem.code,
            attempts=run.attempts,
            milliseconds=run.duration_ms,
        )
        return run

    async def _attempt(
        self, tool: Tool, arguments: dict[str, Any], context: ToolContext, deadline: float
    ) -> ToolOutput:
        """Raises `ToolFailed`, and `TimeoutError` when time is up; a defect of the tool is a `ToolFailed` too."""
        loop = asyncio.get_running_loop()
        # A task of its own: what swallows its cancellation can then be left behind.
        call = loop.create_task(_guarded(tool, arguments, context))
        try:
            await asyncio.wait({call}, timeout=deadline - loop.time())
        finally:
            in_time = call.done()
            if not in_time:
                await self._cancel(call, tool.spec)
        if not in_time:
            raise TimeoutError
        if call.cancelled():
            raise _defect(tool.spec, asyncio.CancelledError())
        error = call.exception()
        if error is None:
            return call.result()
        raise error if isinstance(error, ToolFailed) else _defect(tool.spec, error)

    async def _cancel(self, call: asyncio.Task[ToolOutput], spec: ToolSpec) -> None:
        self._left_alone.add(call)
        call.add_done_callback(self._over)
        call.cancel()
        await asyncio.wait({call}, timeout=self._limits.cancel)
        if not call.done():
            self._metrics.left_alone(spec)
            log.error("tool.heeds_no_cancellation", tool=spec.name, source=spec.source)

    def _over(self, call: asyncio.Task[ToolOutput]) -> None:
        self._left_alone.discard(call)
        if not call.cancelled():
            call.exception()  # seen, or asyncio would report it as lost

    def _pause_before_retry(self, spec: ToolSpec, error: ToolFailed, attempt: int) -> float | None:
        """Seconds until the next attempt, or None where there must not be one."""
        limits = self._limits
        if not (spec.repeatable and error.retryable) or attempt >= limits.attempts:
            return None
        pause: float = limits.retry_base * 2 ** (attempt - 1) * (0.5 + self._jitter() / 2)
        return min(pause, limits.retry_max)


async def _guarded(tool: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
    try:
        return _bounded(await tool.call(arguments, context))
    except SystemExit as error:
        # asyncio hands this one on to the loop, and the whole agent would exit.
        raise _defect(tool.spec, error) from None


def _bounded(output: ToolOutput) -> ToolOutput:
    """What of it may be stored, sent and shown. The cut comes first: cleaning 100 MiB would take a second."""
    length = len(output.text)
    text = plain_text(output.text[: MAX_RESULT_CHARACTERS + 1])
    if length > MAX_RESULT_CHARACTERS:
        note = f"\n[cut: the first part of {length} characters]"
        text = text[: MAX_RESULT_CHARACTERS - len(note)] + note
    return ToolOutput(text, tuple(output.passages[:MAX_PASSAGES]))


def _defect(spec: ToolSpec, error: BaseException) -> ToolFailed:
    """The model is told no more than that; whoever mends the tool, what was raised and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
    log.error("tool.crashed", tool=spec.name, source=spec.source, error=type(error).__name__, where=where)
    return ToolFailed(ToolFailure.detail if spec.repeatable else f"{ToolFailure.detail} {_MAYBE_DONE}")


def _problem_of(error: ToolFailed, spec: ToolSpec) -> Problem:
    message = plain_text(error.message[:_MAX_MESSAGE_CHARACTERS])
    if error.outcome_unknown and not spec.repeatable:
        return ToolOutcomeUnknown(f"{message} {_MAYBE_DONE}")
    return ToolFailure(message)


def _timed_out(spec: ToolSpec, seconds: float) -> ToolTimedOut:
    detail = f"It took longer than {seconds:.3g} seconds and was stopped."
    return ToolTimedOut(detail if spec.repeatable else f"{detail} {_MAYBE_DONE}")


def _run(output: ToolOutput | Problem, attempts: int, duration_ms: int) -> ToolRun:
    if isinstance(output, ToolOutput):
        passages = tuple(output.passages)
        return ToolRun(ToolOutcome.SUCCEEDED, output.text, passages, None, attempts, duration_ms)
    outcome = ToolOutcome.TIMED_OUT if isinstance(output, ToolTimedOut) else ToolOutcome.FAILED
    return ToolRun(outcome, failure(output.detail), (), output, attempts, duration_ms)
