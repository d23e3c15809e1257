"""`POST /v1/chat` with tools, before the scripted model: the direct loop, and the one that a caller drives."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.contracts.chat import ChatAnswer, ErrorEvent, FinishReason
from shared.contracts.tools import ApprovalRequiredEvent, PausedEvent, ToolCallEvent, ToolOutcome, ToolResultEvent
from tests.factories.turns import events_in, text_of, turn
from tests.fakes.scripted_model import ScriptedModelServer

JSON = {"Accept": "application/json"}
SUM = """[[script call=calculator args='{"expression": "17 * 23"}']]"""
CALCULATOR = ["calculator"]
LAMP = {"name": "lamp", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}
both_providers = pytest.mark.parametrize("provider", ["openai", "google_genai"])


def asking(content: str, provider: str = "openai", **fields: Any) -> dict[str, Any]:
    return {**turn(content, provider=provider), "tools": CALCULATOR, **fields}


async def stream(agent: httpx.AsyncClient, body: dict[str, Any]) -> list[Any]:
    response = await agent.post("/v1/chat", json=body)
    assert response.status_code == 200, response.text
    events: list[Any] = events_in(response.text)
    return events


async def at_once(agent: httpx.AsyncClient, body: dict[str, Any]) -> ChatAnswer:
    response = await agent.post("/v1/chat", json=body, headers=JSON)
    assert response.status_code == 200, response.text
    return ChatAnswer.model_validate_json(response.content)


def going_on(body: dict[str, Any], events: list[Any], *results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The same request with what the assistant has said and called."""
    calls = [event.call.model_dump(mode="json") for event in events if isinstance(event, ToolCallEvent)]
    said = {"role": "assistant", "content": text_of(events), "tool_calls": calls}
    return {**body, "messages": [*body["messages"], said, *results], **fields}


@both_providers
async def test_the_loop_runs_inside_one_call(agent: httpx.AsyncClient, provider: str) -> None:
    events = await stream(agent, asking(SUM, provider))
    assert [event.type for event in events if event.type != "delta"] == ["tool_call", "tool_result", "usage", "done"]
    result = next(event for event in events if isinstance(event, ToolResultEvent))
    assert result.outcome is ToolOutcome.SUCCEEDED
    assert "391" in result.content
    assert "391" in text_of(events)
    assert events[-1].finish_reason is FinishReason.STOP


@both_providers
async def test_a_caller_drives_the_loop_by_decisions(agent: httpx.AsyncClient, provider: str) -> None:
    body = asking(SUM, provider, approval_mode="always")
    events = await stream(agent, body)
    assert [event.type for event in events if event.type != "delta"] == [
        "tool_call", "approval_required", "usage", "paused",
    ]  # fmt: skip
    call_id = next(event.call_id for event in events if isinstance(event, ApprovalRequiredEvent))
    assert isinstance(events[-1], PausedEvent)
    decision = {"call_id": call_id, "decision": "approve", "arguments": {"expression": "17 * 24"}}
    later = await stream(agent, going_on(body, events, decisions=[decision]))
    assert later[0].type == "tool_result"
    assert "408" in text_of(later)
    assert later[-1].type == "done"


@both_providers
async def test_a_refusal_reaches_the_model(agent: httpx.AsyncClient, provider: str) -> None:
    body = asking(SUM, provider, approval_mode="always")
    events = await stream(agent, body)
    call_id = next(event.call.id for event in events if isinstance(event, ToolCallEvent))
    decision = {"call_id": call_id, "decision": "reject", "reason": "Use your head."}
    later = await stream(agent, going_on(body, events, decisions=[decision]))
    assert later[0].outcome is ToolOutcome.REJECTED
    assert "Use your head." in text_of(later)


@both_providers
async def test_the_callers_own_function(agent: httpx.AsyncClient, provider: str) -> None:
    script = """[[script call=lamp args='{"on": true}']]"""
    body = asking(script, provider, tools=[], functions=[LAMP])
    events = await stream(agent, body)
    [call] = [event for event in events if isinstance(event, ToolCallEvent)]
    assert (call.source, call.call.arguments) == ("caller", {"on": True})
    assert events[-1].type == "paused"
    result = {"role": "tool", "tool_call_id": call.call.id, "content": "The lamp is on."}
    assert "The lamp is on." in text_of(await stream(agent, going_on(body, events, result)))


async def test_two_tools_at_once_in_one_json_answer(agent: httpx.AsyncClient) -> None:
    script = """[[script call=calculator args='{"expression": "2 + 2"}' call=current_time]]"""
    answer = await at_once(agent, asking(script, tools=["calculator", "current_time"]))
    assert [event.call.name for event in answer.tool_calls] == ["calculator", "current_time"]
    assert {event.outcome for event in answer.tool_results} == {ToolOutcome.SUCCEEDED}
    assert (answer.awaiting, answer.finish_reason) == ([], FinishReason.STOP)


async def test_a_paused_turn_in_json(agent: httpx.AsyncClient) -> None:
    script = """[[script call=calculator args='{"expression": "2 + 2"}' call=lamp call=gone]]"""
    answer = await at_once(agent, asking(script, functions=[LAMP]))
    known = {event.call.name: event for event in answer.tool_calls}
    assert known["gone"].problem is not None
    assert [result.call_id for result in answer.tool_results] == [known["calculator"].call.id]
    assert answer.awaiting == [known["lamp"].call.id]
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert answer.text == ""


async def test_calls_of_an_earlier_request_that_still_wait_are_awaited(agent: httpx.AsyncClient) -> None:
    body = asking(SUM, approval_mode="always")
    events = await stream(agent, body)
    answer = await at_once(agent, going_on(body, events))
    assert answer.awaiting == [event.call.id for event in events if isinstance(event, ToolCallEvent)]
    assert (answer.tool_calls, answer.finish_reason) == ([], FinishReason.TOOL_CALLS)


@pytest.mark.parametrize("headers", [{}, JSON])
async def test_a_decision_without_a_call_is_refused_before_the_stream(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer, headers: dict[str, str]
) -> None:
    scripted_model.forget()
    body = asking("hi", decisions=[{"call_id": "c1", "decision": "approve"}])
    response = await agent.post("/v1/chat", json=body, headers=headers)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "decision-without-call"
    assert problem["errors"][0]["loc"] == ["body", "decisions", 0, "call_id"]
    assert scripted_model.stats()["total"] == 0


@both_providers
async def test_arguments_that_do_not_fit_are_told_to_the_model(agent: httpx.AsyncClient, provider: str) -> None:
    script = """[[script call=calculator args='{"sum": "2 + 2"}']]"""
    events = await stream(agent, asking(script, provider))
    [call] = [event for event in events if isinstance(event, ToolCallEvent)]
    assert call.problem is not None
    assert call.problem.code == "tool-arguments-invalid"
    assert call.problem.errors
    assert not any(isinstance(event, ToolResultEvent | ErrorEvent) for event in events)
    assert "The call failed" in text_of(events)


async def test_risky_tools_wait_by_default(agent: httpx.AsyncClient) -> None:
    script = """[[script call=fetch_url args='{"url": "https://example.org/"}']]"""
    events = await stream(agent, asking(script, tools=["fetch_url"]))
    assert [event.type for event in events][-3:] == ["approval_required", "usage", "paused"]
