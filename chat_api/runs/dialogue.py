"""What a run and the agent say to each other: questions, calls of tools, decisions, answers.

The agent runs no tool before it is told to, and it is told in a call of its own, after what is going to happen is
stored. So there is a record of whatever may have been done, and a run can go on from its rows in any process. A run
that waits for a person is these rows and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import assert_never

from chat_api.clients.agent import AGENT_RESTARTING, Agent, AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.runs.active import ActiveRun
from chat_api.runs.calls import with_calls
from chat_api.runs.events import CLOSING_EVENTS, terminal_type
from chat_api.runs.models import RunStatus
from chat_api.runs.patience import backoff, patiently
from chat_api.runs.repository import Ended, RunRepository
from chat_api.runs.tool_rounds import Pause, ToolRounds
from chat_api.tools.models import ToolStatus
from shared.contracts.chat import ChatRequest, CitationsEvent, DeltaEvent, DoneEvent, ErrorEvent, UsageEvent
from shared.contracts.tools import (
    ApprovalRequiredEvent,
    PausedEvent,
    ToolCallEvent,
    ToolOutcome,
    ToolResultEvent,
)
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("runs")

# An agent that was killed is back within 2 to 5 s; a run has to be over within 10 s.
_AGENT_PATIENCE_SECONDS = 7.0
_LOOK_AGAIN_SECONDS = 0.1
_EVENTS_PER_CALL = 2


class LeaseLost(Exception):
    """Another process has the run: nothing that this one still does may be stored."""


class Dialogue:
    def __init__(self, agent: Agent, repository: RunRepository, rounds: ToolRounds) -> None:
        self._agent = agent
        self._repository = repository
        self._rounds = rounds

    async def hold(self, active: ActiveRun, request: ChatRequest) -> Problem | None:
        """Ask the agent, have it run what may run, and ask again, until it is done or a person has to decide.

        Returns the problem that it ended with. Where the run waits now, `active.waits` is set. Raises `LeaseLost`, and
        what the agent's client raises.
        """
        if active.called_tools:
            await self._settle(active, lost=True)
        while True:
            end = await self._ask(active, request)
            if not isinstance(end, PausedEvent):
                return end
            if not any(call.status is ToolStatus.RUNNING for call in active.calls):
                if await self._wait(active, end):
                    return None
                # Somebody has decided meanwhile.
                await self._settle(active, lost=False)

    async def _ask(self, active: ActiveRun, request: ChatRequest) -> Problem | PausedEvent | None:
        """Call the agent, and call it again while it cannot be reached."""
        give_up_at: float | None = None
        for delay in backoff():
            turn = with_calls(request, active.calls, active.text, spent_tokens=active.spent_tokens)
            try:
                end = await self._listen(active, turn)
                if isinstance(end, PausedEvent) and active.awaits_any_of(turn.decisions):
                    # It was told to run them, and says nothing of their end: nobody may tell it so a second time.
                    await self._settle(active, lost=True)
                return end
            except (AgentUnavailable, AgentBrokeOff) as error:
                # As long as nothing was said, nobody can notice that the agent begins anew.
                give_up_at = give_up_at or time.monotonic() + _AGENT_PATIENCE_SECONDS
                if active.has_spoken or time.monotonic() + delay > give_up_at:
                    raise
                active.asked.clear()
                await asyncio.sleep(delay)
                may_have_run = isinstance(error, AgentBrokeOff) or error.arrived
                if may_have_run and active.awaits_any_of(turn.decisions):
                    await self._settle(active, lost=True)
        raise AssertionError("the back-off never ends")

    async def _listen(self, active: ActiveRun, request: ChatRequest) -> Problem | PausedEvent | None:
        """One call to the agent, to its end; returns the problem that the agent reported, or that it waits."""
        active.asks(request)
        try:
            return await self._hear(active, request)
        except Problem:
            active.broke_off()
            raise

    async def _hear(self, active: ActiveRun, request: ChatRequest) -> Problem | PausedEvent | None:
        async with aclosing(self._agent.chat(request)) as events:
            async for event in events:
                match event:
                    case DeltaEvent():
                        active.says_who(event)
                        active.say(event.text)
                    case CitationsEvent():
                        active.cite(event.citations)
                    case ToolCallEvent() | ApprovalRequiredEvent() | ToolResultEvent():
                        await self._heed(active, event)
                    case UsageEvent():
                        active.spent(event.usage)
                    case DoneEvent():
                        active.took(event)
                    case PausedEvent():
                        active.took(event)
                        return event
                    case ErrorEvent():
                        active.says_who(event)
                        active.broke_off()
                        return _refusal(active, event)
                    case _:
                        assert_never(event)
        return None

    async def _heed(self, active: ActiveRun, event: ToolCallEvent | ApprovalRequiredEvent | ToolResultEvent) -> None:
        match event:
            case ToolCallEvent():
                active.asked.append(event)
                if event.index + 1 == event.count:
                    await self._record(active)
            case ApprovalRequiredEvent():
                pass  # the agent asks about each call: whether a person has to be asked was decided by its record
            case ToolResultEvent():
                if event.outcome is not ToolOutcome.REJECTED:
                    await self._store(active, event)
            case _:
                assert_never(event)

    async def _record(self, active: ActiveRun) -> None:
        """Store the calls that the model makes at once."""
        asked, active.asked = active.asked, []
        lease, text = active.claim.lease, active.text
        number = active.calls[-1].round + 1 if active.calls else 1
        position = active.stream.last_id + _EVENTS_PER_CALL * len(asked)
        # Before it is known that they are stored: who is stopped meanwhile has to close them.
        active.called_tools = True
        recorded = await patiently(
            lambda: self._rounds.record(lease, number, asked, content=text, stream_position=position)
        )
        if recorded is None:
            raise LeaseLost
        active.requested(recorded)

    async def _store(self, active: ActiveRun, event: ToolResultEvent) -> None:
        lease = active.claim.lease
        stored = await patiently(lambda: self._rounds.store_result(lease, event))
        if stored is None:
            # Another process has the run, or said of the call that nobody knows its end.
            raise LeaseLost
        active.answered(stored)

    async def _settle(self, active: ActiveRun, *, lost: bool) -> None:
        lease = active.claim.lease
        settled = await patiently(lambda: self._rounds.settle(lease, lost=lost))
        if settled is None:
            raise LeaseLost
        calls, changed = settled
        active.settled(calls, changed)

    async def _wait(self, active: ActiveRun, end: PausedEvent) -> bool:
        """Let the run wait for people. False when nothing waits any more, or the run is to be cancelled."""
        lease = active.claim.lease
        pause = Pause(
            content=active.text,
            stream_length=active.stream.last_id + CLOSING_EVENTS,
            usage=active.usage,
            provider=end.provider,
            model=end.model,
            latency_ms=active.latency_ms,
            time_to_first_token_ms=active.first_token_ms,
        )
        # From here on nobody may interrupt: whoever decides on the last call finds the run waiting, or goes on with it.
        active.ending = True
        waiting = await patiently(lambda: self._rounds.pause(lease, pause))
        if waiting is None:
            waiting = await self._waited_before(active, pause)
        if waiting is None:
            active.ending = False
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            return False
        active.waits = True
        if waiting.reply is not None:
            active.stream.publish("message.updated", waiting.reply)
        active.stream.publish(terminal_type(RunStatus.AWAITING_APPROVAL), waiting.run)
        log.info("run.waiting", run_id=str(lease.run_id))
        return True

    async def _waited_before(self, active: ActiveRun, pause: Pause) -> Ended | None:
        """A commit whose answer was lost looks like a refusal when it is tried again: tell them apart."""
        run_id = active.claim.lease.run_id
        return await patiently(
            lambda: self._repository.stands_as(run_id, RunStatus.AWAITING_APPROVAL, pause.stream_length)
        )


def _refusal(active: ActiveRun, event: ErrorEvent) -> Problem:
    """Raises `AgentUnavailable` for an agent that is restarting: it will be back."""
    if event.problem.code == AGENT_RESTARTING and not active.has_spoken:
        raise AgentUnavailable(arrived=True)
    return AgentRefused(event.problem)
