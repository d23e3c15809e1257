"""An agent whose model calls tools, as far as the chat API can tell: it keeps the agent's side of the protocol.

It runs nothing that was not decided on, and remembers every execution, so that tests can count them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.contracts.chat import ChatEvent, ChatMessage, ChatRequest, ChatRole, DeltaEvent, UsageEvent
from shared.contracts.tools import (
    ApprovalRequiredEvent,
    PausedEvent,
    ToolCall,
    ToolCallEvent,
    ToolDecision,
    ToolOutcome,
    ToolResultEvent,
    ToolRisk,
    ToolVerdict,
)
from shared.problems import ProblemDocument
from tests.fakes.agent import DONE, USAGE

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 20}, "token": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
PAUSED = PausedEvent(provider="local", model="scripted", latency_ms=9, time_to_first_token_ms=None)


@dataclass
class Wish:
    """A call that the model makes. `hold` keeps the tool running until it is set; `breaks` cuts the connection then.

    A `mute` tool is run, and nothing is said of it.
    """

    text: str = "hello"
    name: str = "note"
    risk: ToolRisk = ToolRisk.RISKY
    repeatable: bool = False
    outcome: ToolOutcome = ToolOutcome.SUCCEEDED
    breaks: int = 0
    mute: bool = False
    hold: asyncio.Event | None = None
    problem: ProblemDocument | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    redacted: list[str] = field(default_factory=list)
    redact_result: bool = False


def safe(text: str = "hello", **more: Any) -> Wish:
    """A call that nobody has to be asked about, and that may be run again."""
    return Wish(text, risk=ToolRisk.SAFE, repeatable=True, **more)


class ToolAgent:
    """Makes the `rounds` of calls one after the other, then says `answer`. `before` is said before the first calls.

    `told` is what its model was told of calls when it was last asked.
    """

    def __init__(self, *rounds: Sequence[Wish], before: str = "", answer: str = "Done.") -> None:
        self.rounds = rounds
        self.before = before
        self.answer = answer
        self.executed: list[dict[str, Any]] = []
        self.running = asyncio.Event()
        self.told: list[ChatMessage] = []

    async def __call__(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        made = _calls_since_the_question(request)
        self.told = [message for message in request.messages if message.role is ChatRole.TOOL]
        if made:
            answered = {message.tool_call_id for message in self.told}
            decided = {decision.call_id: decision for decision in request.decisions}
            still_open = [call for call in made[-1] if call.id not in answered]
            for call in still_open:
                if call.id in decided:
                    result = await self._run(len(made) - 1, call, decided[call.id])
                    if self._wish(len(made) - 1, call).mute:
                        yield PAUSED
                        return
                    self.told.append(ChatMessage(role=ChatRole.TOOL, content=result.content, tool_call_id=call.id))
                    yield result
            waiting = [call for call in still_open if call.id not in decided]
            for call in waiting:
                yield ApprovalRequiredEvent(call_id=call.id)
            if waiting:
                yield PAUSED
                return
        if len(made) < len(self.rounds):
            async for event in self._ask(len(made)):
                yield event
            return
        yield DeltaEvent(text=self.answer)
        yield UsageEvent(usage=USAGE)
        yield DONE

    async def _ask(self, number: int) -> AsyncGenerator[ChatEvent, None]:
        wishes = self.rounds[number]
        if self.before and number == 0:
            yield DeltaEvent(text=self.before)
        for index, wish in enumerate(wishes):
            yield ToolCallEvent(
                call=ToolCall(id=f"call_{number}_{index}", name=wish.name, arguments={"text": wish.text, **wish.extra}),
                source="mcp:desk",
                risk=wish.risk,
                repeatable=wish.repeatable,
                parameters=SCHEMA,
                redacted_arguments=wish.redacted,
                redact_result=wish.redact_result,
                index=index,
                count=len(wishes),
                problem=wish.problem,
            )
        for index, wish in enumerate(wishes):
            if wish.problem is None:
                yield ApprovalRequiredEvent(call_id=f"call_{number}_{index}")
        yield UsageEvent(usage=USAGE)
        yield PAUSED

    def _wish(self, number: int, call: ToolCall) -> Wish:
        return self.rounds[number][int(call.id.rsplit("_", 1)[1])]

    async def _run(self, number: int, call: ToolCall, decision: ToolDecision) -> ToolResultEvent:
        assert decision.decision is ToolVerdict.APPROVE
        wish = self._wish(number, call)
        arguments = call.arguments if decision.arguments is None else decision.arguments
        self.executed.append({"call": call.id, **arguments})
        self.running.set()
        if wish.breaks > 0:
            wish.breaks -= 1
            raise httpx.ReadError("the agent died")
        if wish.hold is not None:
            await wish.hold.wait()
        failed = wish.outcome is not ToolOutcome.SUCCEEDED
        problem = ProblemDocument(title="No", status=502, detail="It did not work.", code="tool-failed")
        return ToolResultEvent(
            call_id=call.id,
            outcome=wish.outcome,
            content="The call failed: It did not work." if failed else f"noted {arguments['text']}",
            problem=problem if failed else None,
            attempts=1,
            duration_ms=3,
        )


def _calls_since_the_question(request: ChatRequest) -> list[list[ToolCall]]:
    made: list[list[ToolCall]] = []
    for message in request.messages:
        if message.role is ChatRole.USER:
            made.clear()
        elif message.tool_calls:
            made.append(message.tool_calls)
    return made
