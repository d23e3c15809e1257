"""Runs one turn: a request in, a stream of events out.

The turn waits for passages where it is asked to. Then it goes in rounds: the model is asked, the tools that it calls
run, and it is asked again with what they answered, until it calls none, or a call waits for somebody. It never raises
for what a model, a tool or a search does: a failure is the last event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

from agent_service.application.ask_model import ModelAsker, Reply, TurnLimits
from agent_service.application.call_history import History, check_decisions
from agent_service.application.ground_turn import Grounding, TurnGrounder, question_of, texts_of
from agent_service.application.metrics import TurnMetrics
from agent_service.application.open_calls import Offer, Wait
from agent_service.application.quoted_material import QuotedMaterial
from agent_service.application.settle_calls import TurnTools
from agent_service.application.turn_state import Round, TurnState, new_round, open_round
from agent_service.domain.index_problems import IndexUnavailable
from agent_service.domain.problems import AgentRestarting
from agent_service.domain.turn import ModelCall
from agent_service.ports.chat_model import ChatModel
from agent_service.ports.tools import ToolContext
from agent_service.prompts.fence import new_code
from shared.contracts.chat import (
    ChatEvent,
    ChatRequest,
    ChatRole,
    CitationsEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    Provider,
    ToolChoice,
    UsageEvent,
)
from shared.contracts.tools import SEARCH_KNOWLEDGE, ApprovalRequiredEvent, PausedEvent
from shared.logging import get_logger, request_id_var
from shared.problems import Problem

__all__ = ["ModelDefaults", "TurnLimits", "TurnRunner"]

log = get_logger("turn")


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What answers when the request leaves the choice open."""

    provider: Provider
    models: Mapping[Provider, str]


class TurnRunner:
    """Runs turns on the configured models, and ends them all when the process is to stop."""

    def __init__(
        self,
        models: Mapping[Provider, ChatModel],
        *,
        defaults: ModelDefaults,
        limits: TurnLimits,
        metrics: TurnMetrics,
        tools: TurnTools,
        grounder: TurnGrounder | None = None,
        jitter: Callable[[], float] = random.random,
        make_code: Callable[[Iterable[str]], str] = new_code,
    ) -> None:
        self._asker = ModelAsker(models, limits=limits, metrics=metrics, jitter=jitter)
        self._grounder = grounder
        self._tools = tools
        self._defaults = defaults
        self._limits = limits
        self._metrics = metrics
        self._make_code = make_code
        self._running: set[TurnState] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        return len(self._running)

    def stop(self) -> None:
        """End every running turn with an `agent-restarting` error, and every later one at once."""
        self._stopping = True
        for turn in self._running:
            turn.wake_up.interrupt()

    def check(self, request: ChatRequest) -> list[str]:
        """What is wrong with the request whatever a model says. `run` finds it as well, and then it is an event.

        The answer are the ids of the calls that have no result yet. Raises `DecisionWithoutCall`, `ValidationFailed`.
        """
        if not request.decisions and not any(message.tool_calls for message in request.messages):
            return []
        history = History.of(request.messages)
        check_decisions(request.decisions, history)
        return [call.id for call in history.open]

    async def run(self, request: ChatRequest, *, owner_id: UUID | None = None) -> AsyncGenerator[ChatEvent]:
        """`owner_id` is whose collections may be searched; None is a service, which may search all of them."""
        turn = TurnState(request, self._call_for(request))
        turn.wake_up.interrupted = self._stopping
        self._running.add(turn)
        try:
            async with aclosing(self._rounds(turn, owner_id)) as events:
                async for event in events:
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            self._metrics.cancelled(turn.call.provider)
            log.info("turn.cancelled", **turn.fields)
            raise
        except Problem as problem:
            self._metrics.failed(turn.call.provider)
            log.warning("turn.failed", **turn.fields, code=problem.code)
            if (usage := turn.usage) is not None:
                yield UsageEvent(usage=usage)
            yield _error(problem, turn.call)
        except Exception:
            # The boundary: whatever broke, the caller gets a last event, and the log the trace.
            self._metrics.failed(turn.call.provider)
            log.exception("turn.crashed", **turn.fields)
            yield _error(Problem(), turn.call)
        finally:
            self._running.discard(turn)

    def _call_for(self, request: ChatRequest) -> ModelCall:
        """All but the conversation."""
        choice = request.model
        provider = choice.provider or self._defaults.provider
        return ModelCall(
            provider=provider,
            model=choice.name or self._defaults.models[provider],
            lines=(),
            system_prompt=request.system_prompt,
            temperature=choice.temperature,
            max_tokens=choice.max_tokens,
        )

    async def _rounds(self, turn: TurnState, owner_id: UUID | None) -> AsyncGenerator[ChatEvent]:
        request = turn.request
        history = History.of(request.messages)
        await self._await_tools(turn)
        offer = Offer(request, self._tools.catalog)
        round_ = open_round(history, offer, request)
        await self._prepare(turn, history, offer, owner_id)
        context = _context(request, owner_id)
        ids = set(history.ids)
        choice = request.tool_choice
        while True:
            if round_ is not None:
                async with aclosing(self._settle(turn, round_, context)) as settled:
                    async for event in settled:
                        yield event
                if round_.waiting:
                    return
                turn.go_on(round_.lines)
            may_call = self._may_call(turn, offer)
            reply = turn.next_reply(offer.shown() if may_call else (), choice)
            async with aclosing(self._asker.ask(reply, turn.wake_up)) as deltas:
                async for delta in deltas:
                    yield delta
            # What was filtered is not acted upon.
            if not (may_call and reply.calls) or reply.finish is FinishReason.CONTENT_FILTER:
                break
            choice = ToolChoice.AUTO
            turn.rounds += 1
            calls = offer.wanted(reply.calls, ids)
            ids.update(call.call.id for call in calls)
            for index, call in enumerate(calls):
                yield call.event(index, len(calls), request_id_var.get())
            round_ = new_round("".join(reply.said), calls, request.approval_mode)
        async with aclosing(self._finish(turn, reply)) as ending:
            async for event in ending:
                yield event

    async def _await_tools(self, turn: TurnState) -> None:
        """Wait for tools that are named and may still come. Raises `AgentRestarting`."""
        catalog, named = self._tools.catalog, turn.request.tools
        if not catalog.expects(named) or turn.wake_up.interrupted:
            return
        arrival = turn.loop.create_task(catalog.arrival(named))
        await turn.wake_up.watch(arrival, turn.started + self._limits.new_servers)
        if arrival.cancelled() and turn.wake_up.interrupted:
            raise AgentRestarting

    def _may_call(self, turn: TurnState, offer: Offer) -> bool:
        """At a limit the model is asked once more without tools, so that what they have found is not lost."""
        return bool(offer) and turn.rounds < self._limits.tool_rounds and turn.tokens < self._limits.run_tokens

    async def _settle(self, turn: TurnState, round_: Round, context: ToolContext) -> AsyncGenerator[ChatEvent]:
        """Results as they come; where calls stay open, the end of the turn."""
        async with aclosing(self._tools.settle(round_.steps, context, turn.wake_up, round_.results)) as results:
            async for result in results:
                yield result
        if waiting := round_.waiting:
            for event in self._pause(turn, waiting):
                yield event

    async def _prepare(self, turn: TurnState, history: History, offer: Offer, owner_id: UUID | None) -> None:
        """Put the conversation into the call, with passages, and with what the model has to know of tools."""
        request = turn.request
        turn.call = replace(turn.call, lines=history.lines)
        turn.rounds = history.rounds
        grounding: Grounding | None = None
        if request.collections and request.ground and not turn.wake_up.interrupted:
            grounding = await self._ground(turn, owner_id)
        has_tools = bool(offer or history.calls) or any(line.role is ChatRole.TOOL for line in history.lines)
        if grounding is None and not has_tools:
            return
        call = turn.call if grounding is None else grounding.call
        turn.material = QuotedMaterial(
            grounding,
            call.provider,
            question=question_of(request) or "",
            code=self._make_code(texts_of(call)) if grounding is None else grounding.code,
            characters=self._limits.passage_characters,
            tokens=self._limits.local_tokens,
        )
        if has_tools:
            finds = any(line.passages for line in history.answered.values())
            call = turn.material.with_rules(call, may_find=SEARCH_KNOWLEDGE in offer, finds=finds)
        turn.call = call

    async def _ground(self, turn: TurnState, owner_id: UUID | None) -> Grounding | None:
        """Find the turn's passages, unless it is interrupted or the search takes too long."""
        if self._grounder is None:
            raise IndexUnavailable("This agent has no database to search in: set `COLLOQUY_AGENT_DATABASE_URL`.")
        search = turn.loop.create_task(self._grounder.ground(turn.request, turn.call, owner_id=owner_id))
        await turn.wake_up.watch(search, turn.loop.time() + self._limits.retrieval)
        if search.cancelled():
            interrupted = turn.wake_up.interrupted
            raise AgentRestarting if interrupted else IndexUnavailable("The search took too long. Try again.")
        return search.result()

    async def _finish(self, turn: TurnState, reply: Reply) -> AsyncGenerator[ChatEvent]:
        if turn.material is not None and (citations := await turn.material.citations()):
            yield CitationsEvent(citations=citations)
        now = turn.loop.time()
        first, usage = turn.first_token_at, turn.usage
        self._metrics.completed(
            turn.call.provider, now - turn.started, None if first is None else first - turn.started, usage
        )
        if usage is not None:
            yield UsageEvent(usage=usage)
        done = DoneEvent(
            # What a model calls that may call nothing is not heeded.
            finish_reason=FinishReason.STOP if reply.finish in (None, FinishReason.TOOL_CALLS) else reply.finish,
            provider=turn.call.provider,
            model=turn.call.model,
            latency_ms=turn.milliseconds(now),
            time_to_first_token_ms=turn.first_token_ms,
        )
        tokens = None if usage is None else usage.total_tokens
        log.info("turn.completed", **turn.fields, tokens=tokens, tool_rounds=turn.rounds, latency_ms=done.latency_ms)
        yield done

    def _pause(self, turn: TurnState, waiting: Sequence[Wait]) -> Iterator[ChatEvent]:
        for step in waiting:
            if step.needs_decision:
                yield ApprovalRequiredEvent(call_id=step.call.id)
        usage = turn.usage
        self._metrics.paused(turn.call.provider, usage)
        if usage is not None:
            yield UsageEvent(usage=usage)
        paused = PausedEvent(
            provider=turn.call.provider,
            model=turn.call.model,
            latency_ms=turn.milliseconds(turn.loop.time()),
            time_to_first_token_ms=turn.first_token_ms,
        )
        log.info("turn.paused", **turn.fields, tool_rounds=turn.rounds, waiting=len(waiting))
        yield paused


def _context(request: ChatRequest, owner_id: UUID | None) -> ToolContext:
    user = request.user
    return ToolContext(
        run_id=request.run_id,
        owner_id=owner_id,
        user_id=owner_id or (None if user is None else user.id),
        session_id=None if user is None else user.session_id,
        collections=tuple(request.collections),
        retrieval=request.retrieval,
    )


def _error(problem: Problem, call: ModelCall) -> ErrorEvent:
    return ErrorEvent(
        problem=problem.document(request_id_var.get()),
        retry_after=problem.retry_after,
        provider=call.provider,
        model=call.model,
    )
