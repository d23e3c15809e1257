"""How far a turn has come: what the model is asked next, and the calls that have to be settled before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from agent_service.application.ask_model import Reply
from agent_service.application.call_history import History, check_decisions, result_line
from agent_service.application.model_reader import WakeUp
from agent_service.application.open_calls import Call, Offer, Step, Tell, Wait, step_for
from agent_service.application.quoted_material import QuotedMaterial, queries_of
from agent_service.domain.text import TextCleaner
from agent_service.domain.turn import Line, ModelCall, OfferedTool, added
from shared.contracts.chat import ChatRequest, ChatRole, ToolChoice, Usage
from shared.contracts.tools import ApprovalMode, ToolCall

_BETWEEN_ANSWERS = "\n\n"


class TurnState:
    """The state of one running turn. Times are the event loop's.

    `call` is what the model is asked next. With `material`, others have a say in it: passages, results of tools.
    `rounds` are those in which tools were called, since the user spoke.
    """

    def __init__(self, request: ChatRequest, call: ModelCall) -> None:
        self.request = request
        self.call = call
        self.material: QuotedMaterial | None = None
        self.loop = asyncio.get_running_loop()
        self.wake_up = WakeUp()
        self.started = self.loop.time()
        self.rounds = 0
        self.fields = {"run_id": str(request.run_id), "provider": call.provider.value, "model": call.model}
        self._replies: list[Reply] = []

    def milliseconds(self, moment: float) -> int:
        return round((moment - self.started) * 1000)

    @property
    def first_token_at(self) -> float | None:
        return next((reply.first_token_at for reply in self._replies if reply.first_token_at is not None), None)

    @property
    def first_token_ms(self) -> int | None:
        first = self.first_token_at
        return None if first is None else self.milliseconds(first)

    @property
    def usage(self) -> Usage | None:
        """Of every call to the model, also of one that broke off. None where the provider does not count."""
        counted: Usage | None = None
        return reduce(added, (reply.usage for reply in self._replies), counted)

    @property
    def tokens(self) -> int:
        """Of the run, as far as the provider counts them."""
        usage = self.usage
        return self.request.spent_tokens + (0 if usage is None else usage.total_tokens)

    def next_reply(self, tools: tuple[OfferedTool, ...], choice: ToolChoice) -> Reply:
        if self.call.has_images and any(not reply.call.has_images for reply in self._replies):
            # The model takes none: it need not refuse them again.
            self.call = self.call.without_images()
        cleaner = TextCleaner() if self.material is None else self.material.cleaner()
        call = replace(self.call, tools=tools, tool_choice=choice) if tools else self.call
        reply = Reply(call, cleaner, lead="" if self.first_token_at is None else _BETWEEN_ANSWERS)
        self._replies.append(reply)
        return reply

    def go_on(self, lines: Iterable[Line]) -> None:
        """Add to the conversation. Results of tools become what the model is shown of them."""
        new = list(lines)
        if self.material is not None:
            queries = queries_of([*self.call.lines, *new])
            new = [self.material.shown(line, queries) for line in new]
        self.call = replace(self.call, lines=(*self.call.lines, *new))


class Round:
    """Calls that the model made at once: what is to be done with each, and what came of those that are over."""

    def __init__(
        self,
        calls: Sequence[ToolCall],
        steps: Sequence[Step],
        results: dict[str, Line],
        *,
        before: Sequence[Line] = (),
        after: Sequence[Line] = (),
    ) -> None:
        self.steps = steps
        self.results = results
        self._calls = calls
        self._before = before
        self._after = after

    @property
    def waiting(self) -> list[Wait]:
        return [step for step in self.steps if isinstance(step, Wait)]

    @property
    def lines(self) -> list[Line]:
        """What the round adds to the conversation, now that every call has a result."""
        return [*self._before, *(self.results[call.id] for call in self._calls), *self._after]


def open_round(history: History, offer: Offer, request: ChatRequest) -> Round | None:
    """The round that the conversation ends with, whose calls are in its lines already.

    Raises `DecisionWithoutCall`.
    """
    check_decisions(request.decisions, history)
    if not history.calls:
        return None
    decisions = {decision.call_id: decision for decision in request.decisions}
    steps = [step_for(offer.of(call), decisions.get(call.id), request.approval_mode) for call in history.open]
    return Round(history.calls, steps, dict(history.answered), after=history.after)


def new_round(said: str, calls: Sequence[Call], mode: ApprovalMode) -> Round:
    asked = tuple(call.call for call in calls)
    steps = [step_for(call, None, mode) for call in calls]
    # Why a call cannot be run was said when it was announced.
    told = {step.call.id: result_line(step.call, step.content) for step in steps if isinstance(step, Tell)}
    line = Line(ChatRole.ASSISTANT, said, tool_calls=asked)
    return Round(asked, [step for step in steps if not isinstance(step, Tell)], told, before=[line])
