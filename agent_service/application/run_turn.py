"""Runs one turn: a request in, a stream of events out.

The turn waits for passages where it is asked to, measures, retries before the first token, keeps deadlines, cleans
text and paces deltas. It never raises for what a model or a search does: a failure is the last event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from agent_service.application.ground_turn import Grounding, TurnGrounder
from agent_service.application.metrics import TurnMetrics
from agent_service.application.model_reader import ModelReader, WakeUp
from agent_service.domain.index_problems import IndexUnavailable
from agent_service.domain.problems import (
    AgentRestarting,
    ContextTooLong,
    ModelNotConfigured,
    ModelProblem,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent_service.domain.text import TextCleaner
from agent_service.domain.turn import Line, ModelCall
from agent_service.ports.chat_model import ChatModel
from shared.contracts.chat import (
    ChatEvent,
    ChatRequest,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    Provider,
    UsageEvent,
)
from shared.logging import get_logger, request_id_var
from shared.problems import Problem

log = get_logger("turn")

_MAY_BE_THE_IMAGES = (ModelRejected, ContextTooLong)


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """All in seconds but `attempts`, which counts the first call too.

    `delta_interval`: the first delta goes out at once, later ones at most this often.
    `retry_base` doubles with each attempt, and a random half of it is taken off.
    A provider that asks for a longer pause than `retry_max` is not called again.
    """

    first_token: float = 60.0
    between_tokens: float = 30.0
    turn: float = 300.0
    retrieval: float = 10.0
    attempts: int = 3
    retry_base: float = 0.25
    retry_max: float = 3.0
    delta_interval: float = 0.04


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What answers when the request leaves the choice open."""

    provider: Provider
    models: Mapping[Provider, str]


class _Turn:
    """The state of one running turn. Times are the event loop's."""

    def __init__(self, call: ModelCall) -> None:
        self.call = call
        self.grounding: Grounding | None = None
        self.loop = asyncio.get_running_loop()
        self.wake_up = WakeUp()
        self.started = self.loop.time()
        self.first_token_at: float | None = None
        self.interrupted = False

    def interrupt(self) -> None:
        self.interrupted = True
        self.wake_up.wake()

    def spoke(self, now: float) -> None:
        if self.first_token_at is None:
            self.first_token_at = now

    def milliseconds(self, moment: float) -> int:
        return round((moment - self.started) * 1000)


class TurnRunner:
    """Runs turns on the configured models, and ends them all when the process is to stop."""

    def __init__(
        self,
        models: Mapping[Provider, ChatModel],
        *,
        defaults: ModelDefaults,
        limits: TurnLimits,
        metrics: TurnMetrics,
        grounder: TurnGrounder | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._models = models
        self._grounder = grounder
        self._defaults = defaults
        self._limits = limits
        self._metrics = metrics
        self._jitter = jitter
        self._running: set[_Turn] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        return len(self._running)

    def stop(self) -> None:
        """End every running turn with an `agent-restarting` error, and every later one at once."""
        self._stopping = True
        for turn in self._running:
            turn.interrupt()

    async def run(self, request: ChatRequest, *, owner_id: UUID | None = None) -> AsyncGenerator[ChatEvent]:
        """`owner_id` is whose collections may be searched; None is a service, which may search all of them."""
        turn = _Turn(self._call_for(request))
        provider, fields = turn.call.provider, _log_fields(request, turn.call)
        turn.interrupted = self._stopping
        tokens: int | None = None
        self._running.add(turn)
        try:
            if request.collections and not turn.interrupted:
                await self._ground(turn, request, owner_id)
            async with aclosing(self._attempts(turn)) as events:
                async for event in events:
                    if isinstance(event, UsageEvent):
                        tokens = event.usage.total_tokens
                    elif isinstance(event, DoneEvent):
                        log.info("turn.completed", **fields, tokens=tokens, latency_ms=event.latency_ms)
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            self._metrics.cancelled(provider)
            log.info("turn.cancelled", **fields)
            raise
        except Problem as problem:
            self._metrics.failed(provider)
            log.warning("turn.failed", **fields, code=problem.code)
            yield _error(problem)
        except Exception:
            # The boundary: whatever broke, the caller gets a last event, and the log the trace.
            self._metrics.failed(provider)
            log.exception("turn.crashed", **fields)
            yield _error(Problem())
        finally:
            self._running.discard(turn)

    def _call_for(self, request: ChatRequest) -> ModelCall:
        choice = request.model
        provider = choice.provider or self._defaults.provider
        return ModelCall(
            provider=provider,
            model=choice.name or self._defaults.models[provider],
            lines=tuple(Line.of(message) for message in request.messages),
            system_prompt=request.system_prompt,
            temperature=choice.temperature,
            max_tokens=choice.max_tokens,
        )

    async def _ground(self, turn: _Turn, request: ChatRequest, owner_id: UUID | None) -> None:
        """Give the turn its passages, unless it is interrupted or the search takes too long."""
        if self._grounder is None:
            raise IndexUnavailable("This agent has no database to search in: set `COLLOQUY_AGENT_DATABASE_URL`.")
        search = turn.loop.create_task(self._grounder.ground(request, turn.call, owner_id=owner_id))
        await turn.wake_up.watch(search, turn.started + self._limits.retrieval)
        if search.cancelled():
            raise AgentRestarting if turn.interrupted else IndexUnavailable("The search took too long. Try again.")
        turn.grounding = search.result()
        if turn.grounding is not None:
            turn.call = turn.grounding.call

    async def _attempts(self, turn: _Turn) -> AsyncGenerator[ChatEvent]:
        call = turn.call
        model = self._models.get(call.provider)
        if model is None:
            raise ModelNotConfigured
        attempt = 1
        while True:
            if turn.interrupted:
                raise AgentRestarting
            reader = ModelReader(model.stream(call), turn.wake_up)
            try:
                async with aclosing(self._relay(turn, reader)) as events:
                    async for event in events:
                        yield event
                return
            except ModelProblem as problem:
                self._metrics.call_failed(call.provider, problem.code)
                if isinstance(problem, _MAY_BE_THE_IMAGES) and turn.first_token_at is None and call.has_images:
                    # It cannot see, or not one of these. Refused for another reason, it will refuse again.
                    log.info("model.refused_images", provider=call.provider)
                    call = call.without_images()
                    continue
                pause = self._pause_before_retry(turn, problem, attempt)
                if pause is None:
                    raise
                log.info("model.retry", provider=call.provider, code=problem.code, attempt=attempt)
            finally:
                await reader.aclose()
            self._metrics.retried(call.provider)
            attempt += 1
            if not turn.interrupted:
                await turn.wake_up.sleep(turn.loop.time() + pause, for_text=False)

    def _pause_before_retry(self, turn: _Turn, problem: ModelProblem, attempt: int) -> float | None:
        """Seconds until the next attempt, or None where there must not be one."""
        limits = self._limits
        if turn.first_token_at is not None or not problem.retryable or attempt >= limits.attempts:
            return None
        pause = limits.retry_base * 2 ** (attempt - 1) * (0.5 + self._jitter() / 2)
        pause = min(pause, limits.retry_max)
        if problem.asked_to_wait is not None:
            if problem.asked_to_wait > limits.retry_max:
                return None
            pause = max(pause, problem.asked_to_wait)
        return pause if turn.loop.time() + pause < turn.started + limits.turn else None

    async def _relay(self, turn: _Turn, reader: ModelReader) -> AsyncGenerator[ChatEvent]:
        """One attempt. What was said goes out before the problem is raised that ended it."""
        answer = None if turn.grounding is None else turn.grounding.answer()
        cleaner = answer or TextCleaner()
        next_delta = 0.0
        problem: ModelProblem | None = None
        while problem is None and not reader.over:
            now = turn.loop.time()
            if reader.has_text and now >= next_delta:
                next_delta = now + self._limits.delta_interval
                if text := cleaner.feed(reader.take_text()):
                    turn.spoke(now)
                    yield DeltaEvent(text=text)
            else:
                problem = await self._wait(turn, reader, now, next_delta)
        if rest := cleaner.feed(reader.take_text()) + cleaner.flush():
            turn.spoke(turn.loop.time())
            yield DeltaEvent(text=rest)
        problem = problem or reader.error
        if answer is not None and problem is None and (citations := await answer.citations()):
            yield CitationsEvent(citations=citations)
        if reader.usage is not None:
            yield UsageEvent(usage=reader.usage)
        if problem is not None:
            raise problem
        yield self._done(turn, reader)

    async def _wait(self, turn: _Turn, reader: ModelReader, now: float, next_delta: float) -> ModelProblem | None:
        """Sleep until there is something to do, or say why there never will be."""
        patience = self._limits.between_tokens if reader.has_spoken else self._limits.first_token
        deadline = min(turn.started + self._limits.turn, reader.last_heard + patience)
        if turn.interrupted:
            return AgentRestarting()
        if now >= deadline:
            return ModelTimeout()
        if reader.has_text:
            await turn.wake_up.sleep(min(deadline, next_delta), for_text=False)
        else:
            await turn.wake_up.sleep(deadline, for_text=True)
        return None

    def _done(self, turn: _Turn, reader: ModelReader) -> DoneEvent:
        if reader.finish is None:
            raise ModelUnavailable("The model broke off in the middle of its answer.")
        now = turn.loop.time()
        first = turn.first_token_at
        self._metrics.completed(
            turn.call.provider, now - turn.started, None if first is None else first - turn.started, reader.usage
        )
        return DoneEvent(
            finish_reason=reader.finish,
            provider=turn.call.provider,
            model=turn.call.model,
            latency_ms=turn.milliseconds(now),
            time_to_first_token_ms=None if first is None else turn.milliseconds(first),
        )


def _error(problem: Problem) -> ErrorEvent:
    return ErrorEvent(problem=problem.document(request_id_var.get()), retry_after=problem.retry_after)


def _log_fields(request: ChatRequest, call: ModelCall) -> dict[str, str]:
    return {"run_id": str(request.run_id), "provider": call.provider.value, "model": call.model}
