"""Turns with tools, before a model that follows a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry

from agent_service.application.ground_turn import TurnGrounder
from agent_service.application.metrics import TurnMetrics
from agent_service.application.run_turn import ModelDefaults, TurnLimits, TurnRunner
from agent_service.domain.turn import CallWanted, Finished, TextPiece, UsageReport
from agent_service.ports.tools import ToolSource
from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent, FinishReason, Provider, Usage
from shared.contracts.tools import ToolCallEvent, ToolResultEvent
from tests.fakes.chat_model import FakeChatModel, ModelStep
from tests.fakes.passages import FakePassageSearch
from tests.fakes.tools import FakeTool, turn_tools

RUN = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
CODE = "kqzrwhbd"
USAGE = UsageReport(Usage(prompt_tokens=30, completion_tokens=2, total_tokens=32))
CALLS = Finished(FinishReason.TOOL_CALLS)
STOP = Finished(FinishReason.STOP)
ANSWER: list[ModelStep] = [TextPiece("At ten."), USAGE, STOP]
MODES = ["never", "risky", "always"]
ASKED = {"role": "user", "content": "When does it close?"}


def wish(name: str = "look", arguments: str = "{}", call_id: str = "") -> CallWanted:
    return CallWanted(call_id, name, arguments)


def calling(*wishes: CallWanted, said: str = "") -> list[ModelStep]:
    return [*([TextPiece(said)] if said else []), *wishes, USAGE, CALLS]


@dataclass
class Turns:
    """Turns with these tools. Every tool is offered unless the request says otherwise."""

    model: FakeChatModel
    tools: Sequence[FakeTool]
    search: FakePassageSearch = field(default_factory=FakePassageSearch)
    limits: TurnLimits = field(default_factory=lambda: TurnLimits(retry_base=0.001, delta_interval=0.0))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    sources: Sequence[ToolSource] = ()

    def __post_init__(self) -> None:
        metrics = TurnMetrics(self.registry)
        self.runner = TurnRunner(
            {Provider.OPENAI: self.model, Provider.LOCAL: self.model},
            defaults=ModelDefaults(provider=Provider.OPENAI, models=dict.fromkeys(Provider, "m")),
            limits=self.limits,
            metrics=metrics,
            tools=turn_tools(*self.tools, sources=self.sources),
            grounder=TurnGrounder(
                self.search, passage_characters=2_000, local_tokens=400, metrics=metrics, make_code=lambda _: CODE
            ),
            make_code=lambda _: CODE,
        )

    def request(self, *messages: dict[str, Any], **fields: Any) -> ChatRequest:
        offered = [tool.name for tool in self.tools]
        body = {"run_id": RUN, "messages": [ASKED, *messages], "tools": offered, **fields}
        return ChatRequest.model_validate(body)

    async def run(self, *messages: dict[str, Any], **fields: Any) -> list[ChatEvent]:
        return [event async for event in self.runner.run(self.request(*messages, **fields))]


def turns(*tools: FakeTool, scripts: Sequence[list[ModelStep]] = (), **settings: Any) -> Turns:
    return Turns(FakeChatModel(list(scripts) or [calling(wish()), ANSWER]), tools or (FakeTool(),), **settings)


def types_of(events: Sequence[ChatEvent]) -> list[str]:
    return [event.type for event in events]


def calls_in(events: Sequence[ChatEvent]) -> list[ToolCallEvent]:
    return [event for event in events if isinstance(event, ToolCallEvent)]


def results_in(events: Sequence[ChatEvent]) -> list[ToolResultEvent]:
    return [event for event in events if isinstance(event, ToolResultEvent)]


def text_of(events: Sequence[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, DeltaEvent))


def asked_for(*ids: str, name: str = "look", said: str = "", **arguments: Any) -> dict[str, Any]:
    """The assistant's message with these calls."""
    calls = [{"id": call_id, "name": name, "arguments": arguments} for call_id in ids]
    return {"role": "assistant", "content": said, "tool_calls": calls}


def answered(call_id: str, content: str = "known") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def approve(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"call_id": call_id, "decision": "approve", "arguments": arguments or None}


def reject(call_id: str, reason: str | None = None) -> dict[str, Any]:
    return {"call_id": call_id, "decision": "reject", "reason": reason}
