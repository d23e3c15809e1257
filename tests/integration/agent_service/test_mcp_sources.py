"""MCP servers that are well: their tools over standard input and output, and over HTTP.

Both speak through the SDK of the protocol, as most servers do. They cost a second each to start: all tests share them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from uuid import uuid4

import psutil
import pytest
import pytest_asyncio

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.application.metrics import ToolMetrics
from agent_service.application.run_tools import ToolLimits, ToolRunner
from agent_service.ports.tools import ToolContext, ToolFailed
from shared.contracts.tools import ToolOutcome, ToolSourceState
from shared.telemetry import new_registry
from tests.fakes.mcp_process import McpHttpProcess, Server, over_bare_stdio, over_stdio, ready, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

STDIO = pytest.mark.parametrize("source", ["stdio"], indirect=True)


async def opened(server: Server) -> AsyncGenerator[McpSource]:
    source = McpSource("fake", server, McpTimes(retry_base=0.05))
    await source.start()
    try:
        await ready(source)
        yield source
    finally:
        await source.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["stdio", "http"])
async def source(request: pytest.FixtureRequest) -> AsyncGenerator[McpSource]:
    if request.param == "stdio":
        async for source in opened(over_stdio("--page", "4", env={"GIVEN": "to it"})):
            yield source
        return
    with McpHttpProcess("--page", "4", "--token", "let-me-in") as process:
        headers = {"Authorization": "Bearer let-me-in"}
        async for source in opened(HttpServer.model_validate({"url": process.url, "headers": headers})):
            yield source


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def never_opened_again(source: McpSource) -> AsyncGenerator[None]:
    yield
    assert (source.state().state, source.state().restarts) == (ToolSourceState.READY, 0)


def own_processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


async def test_a_session_is_opened_once_and_answers_from_then_on(source: McpSource) -> None:
    assert {"fake__echo", "fake__add", "fake__record"} <= {tool.spec.name for tool in source.tools()}  # several pages
    processes = own_processes()
    assert await said(source, "echo", text="hello") == "hello"
    assert await said(source, "add", a=2, b=3) == "5"
    assert await said(source, "echo", text="öß€🙂\n\u2028") == "öß€🙂\n\u2028"
    assert own_processes() == processes


async def test_calls_run_side_by_side(source: McpSource) -> None:
    calls = [asyncio.ensure_future(said(source, "gate")) for _ in range(10)]
    await said(source, "at_gate", count=10)
    await said(source, "open_gate")
    assert await asyncio.gather(*calls) == ["through the gate"] * 10


async def test_what_is_no_text_is_named(source: McpSource) -> None:
    assert (await said(source, "mixed")).splitlines() == [
        "first",
        "[image, image/png, 72 bytes, not shown]",
        "[audio, audio/wav, 3 bytes, not shown]",
        "[resource memo://one]",
        "the text of a resource",
        "[link to memo://two: two]",
        "last",
    ]


async def test_an_error_of_the_tool_is_told_and_the_session_goes_on(source: McpSource) -> None:
    with pytest.raises(ToolFailed) as failed:
        await said(source, "raise_error", message="the wiki is closed")
    assert failed.value.message == "the wiki is closed"
    assert (failed.value.outcome_unknown, failed.value.retryable) == (False, False)
    assert await said(source, "echo", text="on") == "on"


async def taken_back(source: McpSource, count: int) -> None:
    """Wait until the server has had so many calls taken back, ever."""
    async with asyncio.timeout(30):
        while await said(source, "cancelled") != str(count):
            await asyncio.sleep(0.02)


async def test_a_call_whose_time_is_up_is_taken_back_and_others_go_on(source: McpSource) -> None:
    runner = ToolRunner(ToolLimits(seconds=0.5), ToolMetrics(new_registry()))
    tools = {tool.spec.name: tool for tool in source.tools()}
    before = int(await said(source, "cancelled"))
    waiting = asyncio.ensure_future(said(source, "gate"))
    hung = await runner.run(tools["fake__hang"], {}, ToolContext(run_id=uuid4()))
    assert hung.outcome is ToolOutcome.TIMED_OUT
    await taken_back(source, before + 1)
    await said(source, "at_gate", count=1)
    await said(source, "open_gate")
    assert await waiting == "through the gate"


async def test_each_call_is_taken_back_by_its_own_id(source: McpSource) -> None:
    before = int(await said(source, "cancelled"))
    calls = [asyncio.ensure_future(said(source, "gate")) for _ in range(6)]
    await said(source, "at_gate", count=6)
    for call in calls[::2]:
        call.cancel()
    await taken_back(source, before + 3)
    await said(source, "open_gate")
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [True, False] * 3


async def test_a_changed_list_is_read_again(source: McpSource) -> None:
    await said(source, "add_tool", name="fresh")
    async with asyncio.timeout(30):
        while "fake__fresh" not in {tool.spec.name for tool in source.tools()}:
            await asyncio.sleep(0.02)
    assert await said(source, "fresh", text="new") == "new"


async def test_arguments_arrive_as_they_are(source: McpSource) -> None:
    # Not against the schema here: that is the caller's part. What matters is that nothing is dropped.
    assert await said(source, "echo", text="x", nothing=None, many=[None, {"a": None}]) == "x"


@STDIO
async def test_a_process_gets_what_its_config_gives_and_where_programs_are(source: McpSource) -> None:
    environment = json.loads(await said(source, "environment"))
    environment.pop("LC_CTYPE", None)  # Python sets it in its own process
    assert environment == {"GIVEN": "to it", "PATH": os.environ["PATH"]}


@STDIO
async def test_lines_that_are_no_messages_are_passed_over(source: McpSource) -> None:
    assert await said(source, "garbage") == "after garbage"
    assert await said(source, "bad_utf8") == "after invalid bytes"
    assert await said(source, "flood", mib=20, kind="stderr") == "flooded"


@STDIO
async def test_the_list_of_tools_is_bounded(source: McpSource) -> None:
    bare: StdioServer = over_bare_stdio("--tools", "500", "--page", "30")
    async for many in opened(bare):
        assert many.state().tools == 200
        assert source.state().tools < 200
