"""Calls that wait, that somebody decided on, or that cannot be run."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.domain.tool_problems import DecisionWithoutCall
from agent_service.domain.turn import CallWanted, Finished
from agent_service.ports.tools import ToolFailed
from shared.contracts.chat import (
    ChatRole,
    ErrorEvent,
    FinishReason,
)
from shared.contracts.tools import (
    MAX_CALLS,
    ApprovalRequiredEvent,
    PausedEvent,
    ToolOutcome,
    ToolRisk,
)
from shared.problems import ValidationFailed
from tests.factories.tool_turns import (
    ANSWER,
    ASKED,
    MODES,
    answered,
    approve,
    asked_for,
    calling,
    calls_in,
    reject,
    results_in,
    turns,
    types_of,
    wish,
)
from tests.fakes.tools import WITH_QUERY, FakeTool


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("risk", list(ToolRisk))
async def test_nothing_runs_that_the_mode_asks_for(mode: str, risk: ToolRisk) -> None:
    tool = FakeTool(risk=risk)
    tried = turns(tool)
    events = await tried.run(approval_mode=mode)
    waits = mode == "always" or (mode == "risky" and risk is ToolRisk.RISKY)
    ending = ["approval_required", "usage", "paused"] if waits else ["tool_result", "delta", "usage", "done"]
    assert types_of(events) == ["tool_call", *ending]
    assert len(tool.calls) == (0 if waits else 1)
    if waits:
        [approval] = [event for event in events if isinstance(event, ApprovalRequiredEvent)]
        assert approval.call_id == calls_in(events)[0].call.id
        assert len(tried.model.calls) == 1
        assert tried.runner.running == 0


async def test_what_needs_no_decision_runs_before_the_turn_is_paused() -> None:
    safe, risky = FakeTool("safe"), FakeTool("risky", risk=ToolRisk.RISKY)
    tried = turns(safe, risky, scripts=[calling(wish("risky", call_id="c1"), wish("safe", call_id="c2"))])
    events = await tried.run()
    ending = ["tool_call", "tool_call", "tool_result", "approval_required", "usage", "paused"]
    assert types_of(events) == ending
    assert (len(safe.calls), len(risky.calls)) == (1, 0)
    assert [event.call_id for event in events if isinstance(event, ApprovalRequiredEvent)] == ["c1"]
    assert isinstance(events[-1], PausedEvent)


async def test_goes_on_with_what_was_approved() -> None:
    tool = FakeTool(scripts=[["found"]], risk=ToolRisk.RISKY)
    tried = turns(tool, scripts=[ANSWER])
    events = await tried.run(asked_for("c1", query="x"), approval_mode="always", decisions=[approve("c1")])
    assert types_of(events) == ["tool_result", "delta", "usage", "done"]
    assert tool.calls == [{"query": "x"}]
    [call] = tried.model.calls
    assert [line.role for line in call.lines] == [ChatRole.USER, ChatRole.ASSISTANT, ChatRole.TOOL]
    assert call.lines[-1].content == "found"


async def test_approved_with_other_arguments_runs_with_those_and_the_model_is_told() -> None:
    tool = FakeTool(scripts=[["found"]], parameters=WITH_QUERY)
    tried = turns(tool, scripts=[ANSWER])
    decision = approve("c1", query="pier")
    events = await tried.run(asked_for("c1", query="harbour"), approval_mode="always", decisions=[decision])
    told = 'A person changed the arguments to {"query":"pier"} before it ran.\nfound'
    assert tool.calls == [{"query": "pier"}]
    assert results_in(events)[0].content == tried.model.calls[0].lines[-1].content == told


async def test_a_change_does_not_show_what_no_log_may_show() -> None:
    tool = FakeTool(redacted_arguments=frozenset({"query"}))
    decision = approve("c1", query="a secret", other=1)
    events = await turns(tool, scripts=[ANSWER]).run(asked_for("c1"), decisions=[decision])
    assert results_in(events)[0].content.startswith(
        'A person changed the arguments to {"query":"[redacted]","other":1}'
    )
    assert tool.calls == [{"query": "a secret", "other": 1}]


async def test_arguments_of_a_person_have_to_fit_as_well() -> None:
    tool = FakeTool(parameters=WITH_QUERY)
    decision = approve("c1", query="x" * 21)
    events = await turns(tool, scripts=[ANSWER]).run(asked_for("c1", query="x"), decisions=[decision])
    [result] = results_in(events)
    assert (result.outcome, result.attempts) == (ToolOutcome.FAILED, 0)
    assert result.problem is not None
    assert result.problem.code == "tool-arguments-invalid"
    assert tool.calls == []


async def test_what_a_person_approved_is_what_runs_where_python_takes_both_for_equal() -> None:
    tool = FakeTool()
    decision = {"call_id": "c1", "decision": "approve", "arguments": {"all": True}}
    asked = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "look", "arguments": {"all": 1}}]}
    await turns(tool, scripts=[ANSWER]).run(asked, approval_mode="always", decisions=[decision])
    assert tool.calls[0]["all"] is True


async def test_the_model_is_told_why_a_person_refused() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[ANSWER])
    events = await tried.run(asked_for("c1"), decisions=[reject("c1", "Too dear.")])
    [result] = results_in(events)
    assert (result.outcome, result.attempts, result.problem) == (ToolOutcome.REJECTED, 0, None)
    assert (
        tried.model.calls[0].lines[-1].content == "The tool was not run: a person refused it. Their reason: Too dear."
    )
    assert tool.calls == []


async def test_calls_are_decided_one_by_one() -> None:
    tool = FakeTool()
    tried = turns(tool)
    history = [asked_for("c1", "c2", "c3", "c4"), answered("c2")]
    events = await tried.run(*history, approval_mode="always", decisions=[approve("c1"), reject("c3")])
    assert sorted((result.call_id, result.outcome.value) for result in results_in(events)) == [
        ("c1", "succeeded"),
        ("c3", "rejected"),
    ]
    assert types_of(events[2:]) == ["approval_required", "paused"]
    assert tried.model.calls == []
    history += [answered("c1"), answered("c3")]
    events = await tried.run(*history, approval_mode="always", decisions=[approve("c4")])
    assert types_of(events)[:1] == ["tool_result"]
    told = tried.model.calls[0].lines
    assert [line.tool_call_id for line in told if line.role is ChatRole.TOOL] == ["c1", "c2", "c3", "c4"]


async def test_an_open_call_without_a_decision_runs_where_the_mode_does_not_ask() -> None:
    tool = FakeTool()
    events = await turns(tool, scripts=[ANSWER]).run(asked_for("c1"), approval_mode="risky")
    assert types_of(events) == ["tool_result", "delta", "usage", "done"]
    assert len(tool.calls) == 1


async def test_an_answered_round_goes_straight_to_the_model() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[ANSWER])
    assert types_of(await tried.run(asked_for("c1"), answered("c1", "known"))) == ["delta", "usage", "done"]
    assert tried.model.calls[0].lines[-1].content == "known"
    assert tool.calls == []


async def test_what_the_user_went_on_without_is_never_run() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[ANSWER])
    later = {"role": "user", "content": "Never mind."}
    assert types_of(await tried.run(asked_for("c1"), later, approval_mode="never")) == ["delta", "usage", "done"]
    assert [line.role for line in tried.model.calls[0].lines][1:] == [ChatRole.ASSISTANT, ChatRole.TOOL, ChatRole.USER]
    assert tried.model.calls[0].lines[2].content.startswith("This call was never run")
    assert tool.calls == []


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="no calls"),
        pytest.param([asked_for("c2")], id="another call"),
        pytest.param([asked_for("c1"), answered("c1")], id="has a result"),
        pytest.param([asked_for("c1"), ASKED], id="the user went on"),
        pytest.param([asked_for("c1"), answered("c1"), asked_for("c2")], id="an earlier round"),
    ],
)
async def test_decisions_are_on_open_calls(history: list[dict[str, Any]]) -> None:
    tool = FakeTool()
    tried = turns(tool)
    with pytest.raises(DecisionWithoutCall):
        tried.runner.check(tried.request(*history, decisions=[approve("c1")]))
    [event] = await tried.run(*history, approval_mode="never", decisions=[approve("c1")])
    assert isinstance(event, ErrorEvent)
    assert event.problem.code == "decision-without-call"
    assert (tool.calls, tried.model.calls) == ([], [])


def test_knows_the_open_calls_before_the_turn() -> None:
    tried = turns()
    check = tried.runner.check
    assert check(tried.request()) == []
    assert check(tried.request(asked_for("c1", "c2"), answered("c1"))) == ["c2"]
    with pytest.raises(ValidationFailed):
        check(tried.request(asked_for("c1", "c1")))


async def test_a_call_of_the_callers_function_pauses_the_turn() -> None:
    tool = FakeTool()
    function = {"name": "lamp", "description": "Switches.", "parameters": {"type": "object", "required": ["on"]}}
    script = calling(wish("look"), wish("lamp", call_id="c2"))
    tried = turns(tool, scripts=[script, ANSWER])
    events = await tried.run(functions=[function], approval_mode="always", tools=[])
    assert types_of(events) == ["tool_call", "tool_call", "usage", "paused"]
    unknown, lamp = calls_in(events)
    assert unknown.problem is not None
    assert (lamp.source, lamp.problem, lamp.parameters) == ("caller", None, function["parameters"])
    assert [item.name for item in tried.model.calls[0].tools] == ["lamp"]
    again = await tried.run(asked_for("c2", name="lamp"), answered("c2", "on"), functions=[function])
    assert types_of(again) == ["delta", "usage", "done"]
    still = await tried.run(asked_for("c2", name="lamp"), functions=[function], approval_mode="never")
    assert types_of(still) == ["paused"]


async def test_a_function_of_the_caller_hides_a_tool_of_the_same_name() -> None:
    tool = FakeTool()
    tried = turns(tool)
    events = await tried.run(functions=[{"name": "look"}], approval_mode="never")
    assert types_of(events) == ["tool_call", "usage", "paused"]
    assert len(tried.model.calls[0].tools) == 1
    assert tool.calls == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        pytest.param(wish("gone"), "tool-not-found", id="unknown"),
        pytest.param(wish("lo ok\x00"), "tool-not-found", id="no name"),
        pytest.param(wish(""), "tool-not-found", id="empty name"),
        pytest.param(wish(arguments="[]"), "tool-arguments-invalid", id="list"),
        pytest.param(wish(arguments='{"query": "har'), "tool-arguments-invalid", id="cut"),
        pytest.param(wish(arguments='{"query": "\\u0000"}'), "tool-arguments-invalid", id="nul"),
        pytest.param(wish(arguments='{"query": 1}'), "tool-arguments-invalid", id="does not fit"),
        pytest.param(wish(arguments=""), "tool-arguments-invalid", id="nothing"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
async def test_what_cannot_be_run_is_told_and_never_run(wanted: CallWanted, code: str, mode: str) -> None:
    tool = FakeTool(parameters=WITH_QUERY)
    tried = turns(tool, scripts=[calling(wanted), ANSWER])
    events = await tried.run(approval_mode=mode)
    assert types_of(events) == ["tool_call", "delta", "usage", "done"]
    [call] = calls_in(events)
    assert call.problem is not None
    assert call.problem.code == code
    asked, told = tried.model.calls[1].lines[-2:]
    assert asked.tool_calls == (call.call,)
    assert told.content.startswith("The call failed: ")
    assert tool.calls == []


async def test_a_tool_that_is_not_offered_is_not_run() -> None:
    offered, other = FakeTool("offered"), FakeTool("other")
    tried = turns(offered, other, scripts=[calling(wish("other")), ANSWER])
    await tried.run(tools=["offered"], approval_mode="never")
    events = await tried.run(asked_for("c1", name="other"), tools=["offered"], decisions=[approve("c1")])
    assert results_in(events)[0].outcome is ToolOutcome.FAILED
    assert other.calls == []


async def test_ids_are_unique_within_the_conversation() -> None:
    wishes = [wish(call_id=call_id) for call_id in ("c1", "c1", "", "c0", "bad id", "x" * 201)]
    tried = turns(scripts=[calling(*wishes), calling(wish(call_id="c1")), ANSWER])
    events = await tried.run(asked_for("c0"), answered("c0"))
    ids = [call.call.id for call in calls_in(events)]
    assert ids[0] == "c1"
    assert len({*ids, "c0"}) == 8
    assert all(call_id.startswith("call_") for call_id in ids[1:])


async def test_a_providers_mark_comes_back_with_the_call() -> None:
    wanted = [CallWanted("c1", "look", "{}", "mark"), CallWanted("c2", "look", "{}", "m\x00rk")]
    tried = turns(scripts=[calling(*wanted), ANSWER])
    events = await tried.run()
    assert [call.call.signature for call in calls_in(events)] == ["mark", None]
    assert [call.signature for call in tried.model.calls[1].lines[1].tool_calls] == ["mark", None]


async def test_more_calls_than_allowed_are_left_out() -> None:
    tool = FakeTool()
    tried = turns(tool, scripts=[calling(*[wish()] * (MAX_CALLS + 3)), ANSWER])
    assert len(calls_in(await tried.run())) == len(tool.calls) == MAX_CALLS


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH])
async def test_calls_count_whatever_the_model_says_of_its_end(reason: FinishReason) -> None:
    tool = FakeTool()
    await turns(tool, scripts=[[wish(), Finished(reason)], ANSWER]).run()
    assert len(tool.calls) == 1


async def test_what_was_filtered_is_not_acted_upon() -> None:
    tool = FakeTool()
    events = await turns(tool, scripts=[[wish(), Finished(FinishReason.CONTENT_FILTER)]]).run()
    assert types_of(events) == ["done"]
    assert tool.calls == []


@pytest.mark.parametrize(
    ("scripts", "outcome"),
    [
        pytest.param([RuntimeError("broken")], ToolOutcome.FAILED, id="raises"),
        pytest.param([ToolFailed("No such page.")], ToolOutcome.FAILED, id="fails"),
        pytest.param([60.0], ToolOutcome.TIMED_OUT, id="hangs"),
        pytest.param(["x" * 10_000_000], ToolOutcome.SUCCEEDED, id="floods"),
        pytest.param(["\udc80\x00"], ToolOutcome.SUCCEEDED, id="no text"),
    ],
)
async def test_the_turn_goes_on_whatever_a_tool_does(scripts: list[Any], outcome: ToolOutcome) -> None:
    seconds = 0.05 if outcome is ToolOutcome.TIMED_OUT else 30.0
    tried = turns(FakeTool(scripts=[scripts], timeout_seconds=seconds))
    events = await tried.run()
    assert types_of(events) == ["tool_call", "tool_result", "delta", "usage", "done"]
    [result] = results_in(events)
    assert result.outcome is outcome
    assert (result.problem is None) == (outcome is ToolOutcome.SUCCEEDED)
    result.model_dump_json()
    assert len(tried.model.calls[1].lines[-1].content) < 40_000
