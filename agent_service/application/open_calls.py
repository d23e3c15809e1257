"""Calls of tools that have no result yet: what a model's wishes come to, and what is to be done with each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from agent_service.application.tool_arguments import check_arguments, read_arguments
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.domain.text import plain_text
from agent_service.domain.tool_problems import ToolArgumentsInvalid, ToolNotFound
from agent_service.domain.turn import CallWanted, OfferedTool
from agent_service.ports.tools import BUILTIN, Tool, ToolSpec
from shared.contracts.chat import ChatRequest
from shared.contracts.tools import (
    CALLER,
    MAX_CALLS,
    MAX_SIGNATURE_CHARACTERS,
    ApprovalMode,
    FunctionSpec,
    ToolCall,
    ToolCallEvent,
    ToolDecision,
    ToolOutcome,
    ToolRisk,
    ToolVerdict,
    failure,
    rejection,
)
from shared.problems import Problem

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME_CHARACTERS = 64
_ID = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class Call:
    """A call, with the tool that it is of: ours, the caller's `function`, or none that is offered.

    `problem` is why it cannot be run as it stands.
    """

    call: ToolCall
    tool: Tool | None = None
    function: FunctionSpec | None = None
    problem: Problem | None = None

    def event(self, index: int, count: int, request_id: str | None) -> ToolCallEvent:
        spec = None if self.tool is None else self.tool.spec
        caller = self.function is not None
        return ToolCallEvent(
            call=self.call,
            source=CALLER if caller else BUILTIN if spec is None else spec.source,
            risk=ToolRisk.RISKY if spec is None else spec.risk,
            repeatable=spec is not None and spec.repeatable,
            parameters=self._parameters(),
            redacted_arguments=[] if spec is None else sorted(spec.redacted_arguments),
            redact_result=spec is not None and spec.redact_result,
            index=index,
            count=count,
            problem=None if self.problem is None else self.problem.document(request_id),
        )

    def _parameters(self) -> dict[str, Any]:
        if self.function is not None:
            return self.function.parameters
        return {} if self.tool is None else self.tool.spec.parameters


class Offer:
    """What a model may call in one turn. A function of the caller's hides a tool of ours with the same name."""

    def __init__(self, request: ChatRequest, catalog: ToolCatalog) -> None:
        self._functions = {function.name: function for function in request.functions}
        self._tools = {
            tool.spec.name: tool for tool in catalog.offered(request.tools) if tool.spec.name not in self._functions
        }

    def __bool__(self) -> bool:
        return bool(self._tools or self._functions)

    def __contains__(self, name: str) -> bool:
        return name in self._tools or name in self._functions

    def shown(self) -> tuple[OfferedTool, ...]:
        specs: list[ToolSpec | FunctionSpec] = [tool.spec for tool in self._tools.values()]
        return tuple(
            OfferedTool(spec.name, spec.description, spec.parameters) for spec in [*specs, *self._functions.values()]
        )

    def wanted(self, wishes: Sequence[CallWanted], taken: AbstractSet[str]) -> list[Call]:
        """What the model's wishes come to, `MAX_CALLS` at most. Their ids are unique, also among those `taken`."""
        calls: list[Call] = []
        ids = set(taken)
        for wish in wishes[:MAX_CALLS]:
            call_id = wish.id if _ID.fullmatch(wish.id) and wish.id not in ids else f"call_{uuid4().hex}"
            ids.add(call_id)
            calls.append(self._wanted(wish, call_id))
        return calls

    def _wanted(self, wish: CallWanted, call_id: str) -> Call:
        # Providers refuse other names in a history, also where the model made them up.
        name = _NOT_IN_NAMES.sub("_", wish.name)[:_MAX_NAME_CHARACTERS] or "unknown"
        problem: Problem | None = None if wish.name in self else ToolNotFound()
        arguments: dict[str, Any] = {}
        try:
            arguments = read_arguments(wish.arguments)
        except ToolArgumentsInvalid as invalid:
            problem = problem or invalid
        call = ToolCall(id=call_id, name=name, arguments=arguments, signature=_signature(wish))
        if problem is None:
            return self.of(call)
        return replace(self.of(call), problem=problem) if wish.name in self else Call(call, problem=problem)

    def of(self, call: ToolCall) -> Call:
        """The call with its tool. What the caller's functions take is for the caller to check."""
        if (function := self._functions.get(call.name)) is not None:
            return Call(call, function=function)
        tool = self._tools.get(call.name)
        if tool is None:
            return Call(call, problem=ToolNotFound())
        return Call(call, tool=tool, problem=_misfit(call.arguments, tool))


def _misfit(arguments: dict[str, Any], tool: Tool) -> ToolArgumentsInvalid | None:
    try:
        check_arguments(arguments, tool.spec)
    except ToolArgumentsInvalid as invalid:
        return invalid
    return None


def _signature(wish: CallWanted) -> str | None:
    """Handed back unchanged or not at all."""
    signature = wish.signature
    if signature is None or len(signature) > MAX_SIGNATURE_CHARACTERS or plain_text(signature) != signature:
        return None
    return signature


@dataclass(frozen=True, slots=True)
class Run:
    """It may run now, with these arguments; `is_changed` where they are a person's in place of the model's."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]
    is_changed: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """It is not run, and the model is told why."""

    call: ToolCall
    outcome: ToolOutcome
    content: str
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """It waits for a decision, or for what the caller's function answers."""

    call: ToolCall
    needs_decision: bool


Step = Run | Tell | Wait


def step_for(call: Call, decision: ToolDecision | None, mode: ApprovalMode) -> Step:
    """What is to be done with an open call. Nothing that the mode asks for runs without a person's word on it."""
    if decision is not None and decision.decision is ToolVerdict.REJECT:
        return Tell(call.call, ToolOutcome.REJECTED, rejection(decision.reason))
    if call.function is not None and call.problem is None:
        return Wait(call.call, needs_decision=False)
    if call.tool is None:
        return _told(call.call, call.problem or ToolNotFound())
    decided = None if decision is None else decision.arguments
    # What a person saw is what runs, also where Python takes the two for equal: `true` and 1, 1 and 1.0.
    arguments = call.call.arguments if decided is None else decided
    problem = call.problem if decided is None else _misfit(decided, call.tool)
    if problem is not None:
        return _told(call.call, problem)
    if decision is None and mode.asks_for(call.tool.spec.risk):
        return Wait(call.call, needs_decision=True)
    return Run(call.call, call.tool, arguments, is_changed=arguments != call.call.arguments)


def _told(call: ToolCall, problem: Problem) -> Tell:
    return Tell(call, ToolOutcome.FAILED, failure(problem.detail), problem)
