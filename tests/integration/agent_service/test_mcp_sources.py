"""MCP servers that are well: their tools over standard input and output, and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.application.metrics import ToolMetrics
from agent_service.application.run_tools import ToolLimits, ToolRunner
from agent_service.ports.tools import ToolContext, ToolFailed
from shared.contracts.tools import ToolOutcome, ToolSourceState
from shared.telemetry import new_registry
from tests.fakes.mcp_process import McpHttpProcess, Server, over_stdio, ready, said

TIMES = McpTimes(call=20.0, retry_base=0.05)


@pytest.fixture(scope="module", params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> Any:
    if request.param == "stdio":
        yield over_stdio("--page", "4", env={"GIVEN": "to it"})
        return
    with McpHttpProcess("--page", "4", "--token", "let-me-in") as process:
        yield HttpServer.model_validate({"url": process.url, "headers": {"Authorization": "Bearer let-me-in"}})


@asynccontextmanager
async def opened(server: Server, times: McpTimes = TIMES) -> AsyncGenerator[McpSource]:
    source = McpSource("fake", server, times)
    await source.start()
    try:
        await ready(source)
        yield source
    finally:
        await source.aclose()


async def test_a_session_is_opened_once_and_answers_from_then_on(server: Server) -> None:
    async with opened(server) as source:
        assert source.state().state is ToolSourceState.READY
        assert {"fake__echo", "fake__add", "fake__record"} <= {tool.spec.name for tool in source.tools()}  # four pages
        assert await said(source, "echo", text="hello") == "hello"
        assert await said(source, "add", a=2, b=3) == "5"

        started = time.perf_counter()
        for _ in range(20):
            await said(source, "echo", text="again")
        assert (time.perf_counter() - started) / 20 < 0.1

        assert await said(source, "echo", text="öß€🙂\n\u2028") == "öß€🙂\n\u2028"


async def test_calls_run_side_by_side(server: Server) -> None:
    async with opened(server) as source:
        started = time.perf_counter()
        answers = await asyncio.gather(*(said(source, "slow", seconds=0.4) for _ in range(10)))
        assert len(answers) == 10
        assert time.perf_counter() - started < 1.5


async def test_what_is_no_text_is_named(server: Server) -> None:
    async with opened(server) as source:
        assert (await said(source, "mixed")).splitlines() == [
            "first",
            "[image, image/png, 72 bytes, not shown]",
            "[audio, audio/wav, 3 bytes, not shown]",
            "[resource memo://one]",
            "the text of a resource",
            "[link to memo://two: two]",
            "last",
        ]


async def test_an_error_of_the_tool_is_told_and_the_session_goes_on(server: Server) -> None:
    async with opened(server) as source:
        with pytest.raises(ToolFailed) as failed:
            await said(source, "raise_error", message="the wiki is closed")
        assert failed.value.message == "the wiki is closed"
        assert (failed.value.outcome_unknown, failed.value.retryable) == (False, False)
        assert await said(source, "echo", text="on") == "on"
        assert source.state().restarts == 0


async def test_a_call_whose_time_is_up_is_taken_back_and_others_go_on(server: Server) -> None:
    runner = ToolRunner(ToolLimits(seconds=0.5), ToolMetrics(new_registry()))
    async with opened(server) as source:
        tools = {tool.spec.name: tool for tool in source.tools()}
        context = ToolContext(run_id=uuid4())
        before = int(await said(source, "cancelled"))
        hung, slow = await asyncio.gather(
            runner.run(tools["fake__hang"], {}, context), said(source, "slow", seconds=0.2)
        )
        assert hung.outcome is ToolOutcome.TIMED_OUT
        assert hung.duration_ms < 800
        assert slow == "waited 0.2 s"
        async with asyncio.timeout(3):
            while await said(source, "cancelled") != str(before + 1):
                await asyncio.sleep(0.02)
        assert source.state().restarts == 0


async def test_each_call_is_taken_back_by_its_own_id(server: Server) -> None:
    async with opened(server) as source:
        before = int(await said(source, "cancelled"))
        calls = [asyncio.ensure_future(said(source, "slow", seconds=0.6)) for _ in range(6)]
        await asyncio.sleep(0.2)
        for call in calls[::2]:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ended] == [True, False] * 3
        assert await said(source, "cancelled") == str(before + 3)


async def test_a_changed_list_is_read_again(server: Server) -> None:
    async with opened(server) as source:
        await said(source, "add_tool", name="fresh")
        async with asyncio.timeout(5):
            while "fake__fresh" not in {tool.spec.name for tool in source.tools()}:
                await asyncio.sleep(0.02)
        assert await said(source, "fresh", text="new") == "new"


async def test_arguments_arrive_as_they_are(server: Server) -> None:
    async with opened(server) as source:
        # Not against the schema here: that is the caller's part. What matters is that nothing is dropped.
        assert await said(source, "echo", text="x", nothing=None, many=[None, {"a": None}]) == "x"


async def test_a_process_gets_what_its_config_gives_and_where_programs_are() -> None:
    async with opened(over_stdio(env={"GIVEN": "to it"})) as source:
        environment = json.loads(await said(source, "environment"))

    environment.pop("LC_CTYPE", None)  # Python sets it in its own process
    assert environment == {"GIVEN": "to it", "PATH": os.environ["PATH"]}


async def test_lines_that_are_no_messages_are_passed_over() -> None:
    async with opened(over_stdio()) as source:
        assert await said(source, "garbage") == "after garbage"
        assert await said(source, "bad_utf8") == "after invalid bytes"
        assert await said(source, "flood", mib=20, kind="stderr") == "flooded"
        assert source.state().restarts == 0


async def test_a_real_server() -> None:
    config = StdioServer(command=sys.executable, args=["-m", "mcp_server_time", "--local-timezone", "UTC"])
    async with opened(config) as source:
        assert {tool.spec.name for tool in source.tools()} == {"fake__get_current_time", "fake__convert_time"}
        now = json.loads(await said(source, "get_current_time", timezone="Asia/Tokyo"))
        assert now["timezone"] == "Asia/Tokyo"
        converted = json.loads(
            await said(source, "convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo")
        )
        assert converted["time_difference"] == "+9.0h"
        with pytest.raises(ToolFailed):
            await said(source, "get_current_time", timezone="Nowhere/At_All")


async def test_the_list_of_tools_is_bounded() -> None:
    async with opened(over_stdio("--tools", "500", "--page", "30")) as source:
        assert source.state().tools == 200
