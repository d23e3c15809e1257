"""Asks a model once, as often as that takes: retries before the first token, deadlines, clean text at an even pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from agent_service.application.metrics import TurnMetrics
from agent_service.application.model_reader import ModelReader, WakeUp
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
from agent_service.domain.turn import CallWanted, ModelCall, added
from agent_service.ports.chat_model import ChatModel
from shared.contracts.chat import DeltaEvent, FinishReason, Provider, Usage
from shared.logging import get_logger

log = get_logger("turn")

_MAY_BE_THE_IMAGES = (ModelRejected, ContextTooLong)


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """All in seconds but `attempts`, which counts the first call too, and those of a run and of a prompt.

    `turn` bounds one answer of the model with all of its attempts: the time of tools, which have limits of their own,
    does not count, and the next answer begins anew.
    `delta_interval`: the first delta goes out at once, later ones at most this often.
    `retry_base` doubles with each attempt, and a random half of it is taken off.
    A provider that asks for a longer pause than `retry_max` is not called again.
    `new_servers` is how long a turn waits for the tools that it names, of servers that are being started: an agent that
    was started again is back before they are, and what a person has approved must not fail because of that.
    After `tool_rounds`, or when a run has taken `run_tokens`, the model is asked once more, without tools.
    `passage_characters` bounds the passages of one result of a tool; for the local model, `local_tokens` does.
    """

    first_token: float = 60.0
    between_tokens: float = 30.0
    turn: float = 300.0
    retrieval: float = 10.0
    new_servers: float = 30.0
    attempts: int = 3
    retry_base: float = 0.25
    retry_max: float = 3.0
    delta_interval: float = 0.04
    tool_rounds: int = 8
    run_tokens: int = 200_000
    passage_characters: int = 24_000
    local_tokens: int = 400


class Reply:
    """What the model has brought so far. Times are the event loop's.

    `lead` goes out before the first text, and is no part of what was `said`. `call` is what was asked in the end:
    without pictures for a model that takes none. `usage` counts every attempt.
    """

    def __init__(self, call: ModelCall, cleaner: TextCleaner, *, lead: str = "") -> None:
        self.call = call
        self.cleaner = cleaner
        self.lead = lead
        self.said: list[str] = []
        self.usage: Usage | None = None
        self.calls: Sequence[CallWanted] = ()
        self.finish: FinishReason | None = None
        self.first_token_at: float | None = None
        self.started = asyncio.get_running_loop().time()


class ModelAsker:
    def __init__(
        self,
        models: Mapping[Provider, ChatModel],
        *,
        limits: TurnLimits,
        metrics: TurnMetrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._models = models
        self._limits = limits
        self._metrics = metrics
        self._jitter = jitter

    async def ask(self, reply: Reply, wake_up: WakeUp) -> AsyncGenerator[DeltaEvent]:
        """Deltas as they come; afterwards `reply` holds the rest. Raises a `ModelProblem`."""
        loop = asyncio.get_running_loop()
        provider = reply.call.provider
        model = self._models.get(provider)
        if model is None:
            raise ModelNotConfigured
        attempt = 1
        while True:
            if wake_up.interrupted:
                raise AgentRestarting
            reader = ModelReader(model.stream(reply.call), wake_up)
            try:
                async with aclosing(self._relay(reply, reader, wake_up)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except ModelProblem as problem:
                self._metrics.call_failed(provider, problem.code)
                if isinstance(problem, _MAY_BE_THE_IMAGES) and reply.first_token_at is None and reply.call.has_images:
                    # It cannot see, or not one of these. Refused for another reason, it will refuse again.
                    log.info("model.refused_images", provider=provider)
                    reply.call = reply.call.without_images()
                    continue
                pause = self._pause_before_retry(reply, problem, attempt)
                if pause is None:
                    raise
                log.info("model.retry", provider=provider, code=problem.code, attempt=attempt)
            finally:
                await reader.aclose()
            self._metrics.retried(provider)
            attempt += 1
            if not wake_up.interrupted:
                await wake_up.sleep(loop.time() + pause, for_text=False)

    def _pause_before_retry(self, reply: Reply, problem: ModelProblem, attempt: int) -> float | None:
        """Seconds until the next attempt, or None where there must not be one."""
        limits = self._limits
        if reply.first_token_at is not None or not problem.retryable or attempt >= limits.attempts:
            return None
        pause = limits.retry_base * 2 ** (attempt - 1) * (0.5 + self._jitter() / 2)
        pause = min(pause, limits.retry_max)
        if problem.asked_to_wait is not None:
            if problem.asked_to_wait > limits.retry_max:
                return None
            pause = max(pause, problem.asked_to_wait)
        return pause if asyncio.get_running_loop().time() + pause < reply.started + limits.turn else None

    async def _relay(self, reply: Reply, reader: ModelReader, wake_up: WakeUp) -> AsyncGenerator[DeltaEvent]:
        """One attempt. What was said goes out before the problem is raised that ended it."""
        loop = asyncio.get_running_loop()
        cleaner = reply.cleaner
        next_delta = 0.0
        problem: ModelProblem | None = None
        while problem is None and not reader.over:
            now = loop.time()
            if reader.has_text and now >= next_delta:
                next_delta = now + self._limits.delta_interval
                if text := cleaner.feed(reader.take_text()):
                    yield _delta(reply, text, now)
            else:
                problem = await self._wait(reply, reader, wake_up, now, next_delta)
        if rest := cleaner.feed(reader.take_text()) + cleaner.flush():
            yield _delta(reply, rest, loop.time())
        reply.usage = added(reply.usage, reader.usage)
        problem = problem or reader.error
        if problem is not None:
            raise problem
        if reader.finish is None:
            raise ModelUnavailable("The model broke off in the middle of its answer.")
        reply.finish, reply.calls = reader.finish, reader.calls

    async def _wait(
        self, reply: Reply, reader: ModelReader, wake_up: WakeUp, now: float, next_delta: float
    ) -> ModelProblem | None:
        """Sleep until there is something to do, or say why there never will be."""
        patience = self._limits.between_tokens if reader.has_spoken else self._limits.first_token
        deadline = min(reply.started + self._limits.turn, reader.last_heard + patience)
        if wake_up.interrupted:
            return AgentRestarting()
        if now >= deadline:
            return ModelTimeout()
        if reader.has_text:
            await wake_up.sleep(min(deadline, next_delta), for_text=False)
        else:
            await wake_up.sleep(deadline, for_text=True)
        return None


def _delta(reply: Reply, text: str, now: float) -> DeltaEvent:
    reply.said.append(text)
    if reply.first_token_at is not None:
        return DeltaEvent(text=text)
    reply.first_token_at = now
    if reply.lead:
        return DeltaEvent(text=reply.lead + text)
    return DeltaEvent(text=text, provider=reply.call.provider, model=reply.call.model)
