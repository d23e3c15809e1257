"""The conversation before a turn: calls of tools with their results, and those that are open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import assert_never

from agent_service.domain.tool_problems import DecisionWithoutCall
from agent_service.domain.turn import Line
from agent_service.prompts.tool_results import NEVER_RUN
from shared.contracts.chat import ChatMessage, ChatRole
from shared.contracts.tools import ToolCall, ToolDecision
from shared.problems import FieldError, ValidationFailed


@dataclass(frozen=True, slots=True)
class History:
    """The conversation as models read it: each call of a tool with its result, in the order of the calls.

    `open` are the calls of the last round that have no result, `answered` the results of its others; the round itself
    is the last of `lines`. `rounds` are those since the user spoke, and `ids` the calls that there have been.
    """

    lines: tuple[Line, ...]
    after: tuple[Line, ...]
    calls: tuple[ToolCall, ...]
    answered: Mapping[str, Line]
    rounds: int
    ids: AbstractSet[str]

    @property
    def open(self) -> tuple[ToolCall, ...]:
        return tuple(call for call in self.calls if call.id not in self.answered)

    @classmethod
    def of(cls, messages: Iterable[ChatMessage]) -> History:
        """Raises `ValidationFailed` where two calls of one message have the same id.

        A call that the user went on without is told as never run. A result without its call is left out: where a long
        history is cut, its beginning may be missing.
        """
        reader = _HistoryReader()
        for position, message in enumerate(messages):
            reader.read(position, message)
        return cls(
            lines=tuple(reader.lines),
            after=tuple(reader.after),
            calls=reader.calls,
            answered=reader.answered,
            rounds=reader.rounds,
            ids=frozenset(reader.ids),
        )


class _HistoryReader:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.after: list[Line] = []
        self.calls: tuple[ToolCall, ...] = ()
        self.answered: dict[str, Line] = {}
        self.rounds = 0
        self.ids: set[str] = set()

    def read(self, position: int, message: ChatMessage) -> None:
        match message.role:
            case ChatRole.TOOL:
                call = next((call for call in self.calls if call.id == message.tool_call_id), None)
                if call is not None and call.id not in self.answered:
                    self.answered[call.id] = replace(Line.of(message), tool_name=call.name)
            case ChatRole.SYSTEM if self.calls:
                self.after.append(Line.of(message))
            case ChatRole.USER:
                self._close()
                self.lines.append(Line.of(message))
                self.rounds = 0
            case ChatRole.ASSISTANT | ChatRole.SYSTEM:
                self._close()
                self.lines.append(Line.of(message))
                if message.tool_calls:
                    self._begin(position, message.tool_calls)
            case _:
                assert_never(message.role)

    def _begin(self, position: int, calls: Sequence[ToolCall]) -> None:
        ids = [call.id for call in calls]
        if len(set(ids)) < len(ids):
            place: list[str | int] = ["body", "messages", position, "tool_calls"]
            wrong = FieldError(loc=place, msg="Two calls have the same id", type="call_id_taken")
            raise ValidationFailed(errors=[wrong])
        self.ids.update(ids)
        self.calls = tuple(calls)
        self.answered = {}
        self.rounds += 1

    def _close(self) -> None:
        """The conversation goes on behind the round."""
        self.lines += [self.answered.get(call.id) or result_line(call, NEVER_RUN) for call in self.calls]
        self.lines += self.after
        self.calls, self.answered, self.after = (), {}, []


def result_line(call: ToolCall, content: str) -> Line:
    return Line(ChatRole.TOOL, content, tool_call_id=call.id, tool_name=call.name)


def check_decisions(decisions: Sequence[ToolDecision], history: History) -> None:
    """Raises `DecisionWithoutCall` for one on a call that is not open."""
    known = {call.id for call in history.open}
    errors = [
        FieldError(loc=["body", "decisions", index, "call_id"], msg="No open call has this id", type="no_open_call")
        for index, decision in enumerate(decisions)
        if decision.call_id not in known
    ]
    if errors:
        raise DecisionWithoutCall(errors=errors)
