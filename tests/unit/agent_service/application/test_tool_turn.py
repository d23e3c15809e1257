"""A turn with tools: its rounds, its limits, and how it ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from agent_service.application.run_turn import TurnLimits
from agent_service.domain.problems import ModelUnavailable
from agent_service.domain.turn import TextPiece
from shared.contracts.chat import (
    ChatEvent,
    ChatRole,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    ToolChoice,
    Usage,
    UsageEvent,
)
from shared.contracts.tools import (
    ToolOutcome,
    ToolResultEvent,
    ToolRisk,
)
from tests.factories.tool_turns import (
    ANSWER,
    CALLS,
    RUN,
    Turns,
    answered,
    approve,
    asked_for,
    calling,
    calls_in,
    reject,
    results_in,
    text_of,
    turns,
    types_of,
    wish,
)
from tests.fakes.chat_model import ModelStep
from tests.fakes.tools import WITH_QUERY, FakeTool


async def test_runs_what_the_model_calls_and_asks_it_again() -> None:
    tool = FakeTool(scripts=[["It closes at ten."]], parameters=WITH_QUERY)
    script = calling(wish(arguments='{"query": "harbour"}', call_id="c1"), said="Let me look.")
    tried = turns(tool, scripts=[script, ANSWER])
    events = await tried.run()
    assert types_of(events) == ["delta", "tool_call", "tool_result", "delta", "usage", "done"]
    assert text_of(events) == "Let me look.\n\nAt ten."
    [call], [result] = calls_in(events), results_in(events)
    assert (call.call.id, call.call.name, call.call.arguments) == ("c1", "look", {"query": "harbour"})
    assert (call.source, call.risk, call.repeatable, call.parameters) == ("builtin", ToolRisk.SAFE, True, WITH_QUERY)
    assert (call.index, call.count, call.problem) == (0, 1, None)
    assert (result.call_id, result.outcome, result.content) == ("c1", ToolOutcome.SUCCEEDED, "It closes at ten.")
    assert tool.calls == [{"query": "harbour"}]
    [first, second] = tried.model.calls
    assert [(item.name, item.parameters) for item in first.tools] == [("look", WITH_QUERY)]
    assert second.tools == first.tools
    asked, told = second.lines[-2:]
    assert (asked.role, asked.content, asked.tool_calls) == (ChatRole.ASSISTANT, "Let me look.", (call.call,))
    assert (told.role, told.content) == (ChatRole.TOOL, "It closes at ten.")
    assert (told.tool_call_id, told.tool_name) == ("c1", "look")
    assert tried.model.closed == 2


async def test_usage_and_times_are_of_the_whole_turn() -> None:
    tool = FakeTool(scripts=[[0.05, "found"]])
    events = await turns(tool).run()
    usage, done = events[-2:]
    assert isinstance(usage, UsageEvent)
    assert usage.usage == Usage(prompt_tokens=60, completion_tokens=4, total_tokens=64)
    assert isinstance(done, DoneEvent)
    assert done.latency_ms >= 45
    assert done.time_to_first_token_ms is not None
    assert done.time_to_first_token_ms >= 45, "no text came before the tool had run"


async def test_calls_of_one_round_run_at_the_same_time() -> None:
    tools = [FakeTool(f"t{number}", scripts=[[0.5, f"result {number}"]]) for number in range(10)]
    wishes = [wish(tool.name, call_id=f"c{number}") for number, tool in enumerate(tools)]
    tried = turns(*tools, scripts=[calling(*wishes), ANSWER])
    started = time.perf_counter()
    events = await tried.run()
    assert time.perf_counter() - started < 4.5
    assert [(call.index, call.count) for call in calls_in(events)] == [(number, 10) for number in range(10)]
    assert {result.call_id for result in results_in(events)} == {f"c{number}" for number in range(10)}
    told = tried.model.calls[1].lines[-10:]
    assert [line.content for line in told] == [f"result {number}" for number in range(10)]


async def test_results_come_in_the_order_they_end_and_are_told_in_the_order_of_the_calls() -> None:
    slow, quick = FakeTool("slow", scripts=[[0.05, "slow"]]), FakeTool("quick", scripts=[["quick"]])
    tried = turns(slow, quick, scripts=[calling(wish("slow"), wish("quick")), ANSWER])
    events = await tried.run()
    assert [result.content for result in results_in(events)] == ["quick", "slow"]
    assert [line.content for line in tried.model.calls[1].lines[-2:]] == ["slow", "quick"]


async def test_after_so_many_rounds_the_model_is_asked_without_tools() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[calling(wish())], limits=TurnLimits(delta_interval=0.0, tool_rounds=3))
    events = await tried.run()
    assert [len(call.tools) for call in tried.model.calls] == [1, 1, 1, 0]
    assert len(tool.calls) == 3
    done = events[-1]
    assert isinstance(done, DoneEvent)
    assert done.finish_reason is FinishReason.STOP, "calls of one that was offered none are not heeded"


async def test_rounds_of_earlier_calls_count_since_the_user_spoke() -> None:
    limits = TurnLimits(delta_interval=0.0, tool_rounds=2)
    old = [asked_for("a"), answered("a"), asked_for("b"), answered("b"), {"role": "user", "content": "And now?"}]
    tried = turns(scripts=[calling(wish())], limits=limits)
    await tried.run(*old, asked_for("c"), answered("c"))
    assert [len(call.tools) for call in tried.model.calls] == [1, 0]


@pytest.mark.parametrize(("spent", "offered"), [(0, [1, 1, 1, 0]), (50, [1, 1, 0]), (96, [0])])
async def test_a_run_that_has_taken_its_tokens_is_asked_without_tools(spent: int, offered: list[int]) -> None:
    tried = turns(scripts=[calling(wish())], limits=TurnLimits(delta_interval=0.0, run_tokens=96))
    await tried.run(spent_tokens=spent)
    assert [len(call.tools) for call in tried.model.calls] == offered


@pytest.mark.parametrize("choice", [ToolChoice.REQUIRED, ToolChoice.NONE])
async def test_the_choice_is_of_the_first_answer(choice: ToolChoice) -> None:
    tried = turns()
    await tried.run(tool_choice=choice)
    assert [call.tool_choice for call in tried.model.calls] == [choice, ToolChoice.AUTO]


async def test_each_answer_has_the_time_of_a_turn() -> None:
    tool = FakeTool(scripts=[[0.5, "found"]])
    late: list[ModelStep] = [0.2, *ANSWER]
    events = await turns(tool, scripts=[[0.2, wish(), CALLS], late], limits=TurnLimits(turn=0.38)).run()
    assert types_of(events)[-1] == "done"


async def test_a_model_that_breaks_off_before_its_calls_is_asked_again() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[[wish(), ModelUnavailable()], calling(wish()), ANSWER])
    assert types_of(await tried.run()) == ["tool_call", "tool_result", "delta", "usage", "done"]
    assert len(tool.calls) == 1


async def test_what_failed_later_still_cost_tokens() -> None:
    events = await turns(scripts=[calling(wish()), [TextPiece("At"), 0.01, ModelUnavailable()]]).run()
    assert types_of(events) == ["tool_call", "tool_result", "delta", "usage", "error"]


async def test_knows_on_whose_behalf_it_runs() -> None:
    tool, owner, user, session, collection = FakeTool(), uuid4(), uuid4(), uuid4(), uuid4()
    tried = turns(tool, scripts=[calling(wish()), ANSWER, calling(wish()), ANSWER])
    fields: dict[str, Any] = {
        "user": {"id": user, "session_id": session},
        "collections": [collection],
        "ground": False,
        "retrieval": {"top_k": 3},
    }
    await tried.run(**fields)
    async for _ in tried.runner.run(tried.request(**fields), owner_id=owner):
        pass
    service, person = tool.contexts
    assert (service.run_id, service.owner_id, service.user_id, service.session_id) == (RUN, None, user, session)
    assert (tuple(service.collections), service.retrieval.top_k) == ((collection,), 3)
    assert (person.owner_id, person.user_id) == (owner, owner), "a key acts for its owner, whoever is named"


async def _begun(tried: Turns, tool: FakeTool) -> asyncio.Task[list[ChatEvent]]:
    task = asyncio.create_task(tried.run())
    while not tool.calls:
        await asyncio.sleep(0.005)
    return task


@pytest.mark.parametrize("stubborn", [0.0, 4.0])
async def test_a_stop_cancels_tools(stubborn: float) -> None:
    tool = FakeTool(scripts=[[600.0]], stubborn=stubborn, timeout_seconds=30.0)
    tried = turns(tool)
    task = await _begun(tried, tool)
    started = time.perf_counter()
    tried.runner.stop()
    events = await task
    assert time.perf_counter() - started < 3.5
    assert types_of(events) == ["tool_call", "usage", "error"]
    assert isinstance(events[-1], ErrorEvent)
    assert events[-1].problem.code == "agent-restarting"
    assert (tool.cancelled, tried.runner.running) == (1, 0)


async def test_what_was_approved_is_not_begun_by_an_agent_that_stops() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[ANSWER])
    tried.runner.stop()
    events = await tried.run(asked_for("c1", "c2"), approval_mode="always", decisions=[reject("c1"), approve("c2")])
    assert types_of(events) == ["error"]
    assert tool.calls == []


async def test_cancelling_the_caller_cancels_tools() -> None:
    tool = FakeTool(scripts=[[60.0]])
    tried = turns(tool)
    task = await _begun(tried, tool)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tool.cancelled, tried.runner.running) == (1, 0)


async def test_closing_the_stream_cancels_what_still_runs() -> None:
    quick, slow = FakeTool("quick"), FakeTool("slow", scripts=[[60.0]])
    tried = turns(quick, slow, scripts=[calling(wish("slow"), wish("quick")), ANSWER])
    events = tried.runner.run(tried.request())
    async for event in events:
        if isinstance(event, ToolResultEvent):
            break
    await events.aclose()
    assert (slow.cancelled, tried.runner.running) == (1, 0)


@pytest.mark.parametrize(("mode", "outcome"), [("never", "completed"), ("always", "paused")])
async def test_counts_turns_and_their_tokens(mode: str, outcome: str) -> None:
    tried = turns()
    await tried.run(approval_mode=mode)
    read = tried.registry.get_sample_value
    assert read("agent_turns_total", {"provider": "openai", "outcome": outcome}) == 1
    tokens = read("agent_tokens_total", {"provider": "openai", "kind": "completion"})
    assert tokens == (4 if outcome == "completed" else 2)


async def test_the_overhead_of_a_round_is_small() -> None:
    """Less than 10 ms in our own code: the model and the tool take no time here. Other processes do not count."""
    tool = FakeTool(parameters=WITH_QUERY)
    rounds = 20
    scripts = [*[calling(wish(arguments='{"query": "x"}'))] * rounds, ANSWER]
    limits = TurnLimits(delta_interval=0.0, tool_rounds=50)
    await turns(tool, scripts=scripts, limits=limits).run()
    started = time.process_time()
    await turns(tool, scripts=scripts, limits=limits).run()
    assert (time.process_time() - started) / rounds < 0.01
