"""One call of a tool: its time, its attempts, its size, and every way to fail."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import anyio
import pytest
from prometheus_client import CollectorRegistry

from agent_service.application.metrics import ToolMetrics
from agent_service.application.run_tools import MAX_PASSAGES, ToolLimits, ToolRun, ToolRunner
from agent_service.ports.tools import ToolContext, ToolFailed, ToolOutput
from shared.contracts.tools import MAX_RESULT_CHARACTERS, ToolOutcome
from tests.factories.found import passage
from tests.fakes.tools import FakeTool

CONTEXT = ToolContext(run_id=UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"))
FAST = ToolLimits(retry_base=0.001, cancel=0.05)
FLOOD = "x" * (100 * 1024 * 1024)


def runner(limits: ToolLimits = FAST, registry: CollectorRegistry | None = None) -> ToolRunner:
    return ToolRunner(limits, ToolMetrics(registry or CollectorRegistry()), jitter=lambda: 1.0)


async def run(tool: FakeTool, limits: ToolLimits = FAST) -> ToolRun:
    return await runner(limits).run(tool, {"query": "harbour"}, CONTEXT)


def code_of(result: ToolRun) -> str:
    assert result.problem is not None
    return result.problem.code


async def test_hands_over_the_arguments_and_answers_with_the_text() -> None:
    quoted = passage("The harbour closes at ten.")
    tool = FakeTool(scripts=[[0.03, ToolOutput("at ten", (quoted,))]])
    result = await run(tool)
    assert (tool.calls, tool.contexts) == ([{"query": "harbour"}], [CONTEXT])
    assert (result.outcome, result.content, result.passages) == (ToolOutcome.SUCCEEDED, "at ten", (quoted,))
    assert (result.problem, result.attempts) == (None, 1)
    assert 25 <= result.duration_ms < 1000


async def test_a_flood_is_cut_and_said_to_be() -> None:
    result = await run(FakeTool(scripts=[[FLOOD]]))
    assert result.outcome is ToolOutcome.SUCCEEDED
    assert len(result.content) == MAX_RESULT_CHARACTERS
    assert result.content.endswith(f"\n[cut: the first part of {len(FLOOD)} characters]")
    assert result.duration_ms < 2000


async def test_what_just_fits_is_not_cut() -> None:
    text = "x" * MAX_RESULT_CHARACTERS
    assert (await run(FakeTool(scripts=[[text]]))).content == text


async def test_passages_are_bounded() -> None:
    many = tuple(passage(f"Passage {number}.") for number in range(MAX_PASSAGES + 5))
    assert (await run(FakeTool(scripts=[[ToolOutput("many", many)]]))).passages == many[:MAX_PASSAGES]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\ud83d\ude00b", "a😀b"),
        ("a\udc80b", "a\ufffdb"),
        ("a\x00b\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("a\r\nb\rc\td", "a\nb\nc\td"),
    ],
)
async def test_text_that_cannot_be_stored_is_cleaned(text: str, shown: str) -> None:
    assert (await run(FakeTool(scripts=[[text]]))).content == shown


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret"),
        KeyError("secret"),
        SystemExit("secret"),
        asyncio.CancelledError("secret"),
        BaseExceptionGroup("secret", [anyio.ClosedResourceError()]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret"),
        RecursionError("secret"),
        TimeoutError("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_it_raises_is_a_failure_without_a_word_of_it(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = FakeTool(scripts=[[error]])
    result = await run(tool)
    assert (result.outcome, code_of(result)) == (ToolOutcome.FAILED, "tool-failed")
    assert result.content.startswith("The call failed: ")
    assert len(tool.calls) == 1, "a defect does not go away by itself"
    logged = capsys.readouterr().out
    assert type(error).__name__ in logged
    assert "secret" not in result.content + logged


async def test_no_text_at_all_is_a_failure() -> None:
    result = await run(FakeTool(scripts=[[ToolOutput(b"\xff\xfe")]]))  # type: ignore[arg-type]  # a defective tool
    assert (result.outcome, code_of(result)) == (ToolOutcome.FAILED, "tool-failed")


async def test_a_failure_is_told_in_the_tools_words() -> None:
    result = await run(FakeTool(scripts=[[ToolFailed("No such\x00 page.")]]))
    assert (result.outcome, code_of(result)) == (ToolOutcome.FAILED, "tool-failed")
    assert result.content == "The call failed: No such\ufffd page."


@pytest.mark.parametrize(
    ("repeatable", "retryable", "calls", "outcome"),
    [
        (True, True, 3, ToolOutcome.SUCCEEDED),
        (True, False, 1, ToolOutcome.FAILED),
        (False, True, 1, ToolOutcome.FAILED),
    ],
)
async def test_tries_again_only_what_may_be_repeated(
    repeatable: bool, retryable: bool, calls: int, outcome: ToolOutcome
) -> None:
    failed = [ToolFailed("busy", retryable=retryable)]
    tool = FakeTool(scripts=[failed, failed, ["at last"]], repeatable=repeatable)
    result = await run(tool)
    assert (len(tool.calls), result.attempts, result.outcome) == (calls, calls, outcome)


async def test_tries_a_bounded_number_of_times() -> None:
    tool = FakeTool(scripts=[[ToolFailed("busy", retryable=True)]])
    assert (await run(tool, ToolLimits(attempts=2, retry_base=0.001))).attempts == 2
    assert len(tool.calls) == 2


async def test_does_not_wait_past_its_time_for_another_attempt() -> None:
    tool = FakeTool(scripts=[[ToolFailed("busy", retryable=True)]], timeout_seconds=30.0)
    started = time.perf_counter()
    result = await run(tool, ToolLimits(seconds=30.0, retry_base=600.0, retry_max=600.0))
    assert time.perf_counter() - started < 20
    assert (result.attempts, result.outcome) == (1, ToolOutcome.FAILED)


@pytest.mark.parametrize(
    ("repeatable", "unknown", "code"),
    [(False, True, "tool-outcome-unknown"), (True, True, "tool-failed"), (False, False, "tool-failed")],
)
async def test_says_when_nobody_knows_how_it_ended(repeatable: bool, unknown: bool, code: str) -> None:
    failed = ToolFailed("The server died.", outcome_unknown=unknown)
    result = await run(FakeTool(scripts=[[failed]], repeatable=repeatable))
    assert (result.outcome, code_of(result)) == (ToolOutcome.FAILED, code)
    assert ("may have done its work" in result.content) == (code == "tool-outcome-unknown")


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize(
    ("own", "most"), [pytest.param(0.05, 30.0, id="its own time"), pytest.param(30.0, 0.05, id="the time of any tool")]
)
async def test_a_tool_that_hangs_is_cancelled_when_its_time_is_up(own: float, most: float, repeatable: bool) -> None:
    tool = FakeTool(scripts=[[600.0]], timeout_seconds=own, repeatable=repeatable)
    started = time.perf_counter()
    result = await run(tool, ToolLimits(seconds=most))
    assert 0.04 < time.perf_counter() - started < 20
    assert (result.outcome, code_of(result), result.attempts) == (ToolOutcome.TIMED_OUT, "tool-timed-out", 1)
    assert result.content.startswith("The call failed: It took longer than 0.05 seconds")
    assert ("may have done its work" in result.content) == (not repeatable)
    assert (tool.cancelled, len(tool.calls)) == (1, 1)


async def test_a_tool_that_heeds_no_cancellation_is_left_alone() -> None:
    registry = CollectorRegistry()
    tool = FakeTool(scripts=[[600.0]], timeout_seconds=0.02, stubborn=2.0)
    running = runner(ToolLimits(cancel=0.05), registry)
    result = await running.run(tool, {}, CONTEXT)
    assert result.outcome is ToolOutcome.TIMED_OUT
    assert running.left_alone == 1
    assert registry.get_sample_value("agent_tools_left_alone_total", {"tool": "look", "source": "builtin"}) == 1
    async with asyncio.timeout(30):
        while running.left_alone:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("stubborn", [0.0, 2.0])
async def test_cancelling_the_run_cancels_the_tool(stubborn: float) -> None:
    tool = FakeTool(scripts=[[600.0]], stubborn=stubborn, timeout_seconds=30.0)
    running = runner(ToolLimits(cancel=0.05))
    task = asyncio.create_task(running.run(tool, {}, CONTEXT))
    while not tool.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tool.cancelled == 1
    assert running.left_alone == (1 if stubborn else 0), "nobody waits for one that goes on"


async def test_counts_and_measures() -> None:
    registry = CollectorRegistry()
    tried = runner(registry=registry)
    await tried.run(FakeTool(), {}, CONTEXT)
    await tried.run(FakeTool(scripts=[[ToolFailed("no")]]), {}, CONTEXT)
    labels = {"tool": "look", "source": "builtin"}
    assert registry.get_sample_value("agent_tool_seconds_count", labels) == 2
    for outcome in ("succeeded", "failed"):
        assert registry.get_sample_value("agent_tool_calls_total", {**labels, "outcome": outcome}) == 1


async def test_the_log_holds_no_arguments_and_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    await runner().run(FakeTool(scripts=[["at ten"]]), {"query": "harbour"}, CONTEXT)
    logged = capsys.readouterr().out
    assert "tool.ran" in logged
    assert "harbour" not in logged
    assert "at ten" not in logged
