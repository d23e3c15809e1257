"""`GET /v1/tools` and `POST /v1/tools/{name}`, with built-in tools and a real MCP server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.adapters.wiring import Parts, assemble
from agent_service.application.metrics import ToolMetrics
from agent_service.application.run_tools import ToolLimits, ToolRunner
from agent_service.application.tool_catalog import ToolCatalog
from agent_service.config import AgentSettings
from agent_service.main import create_app
from agent_service.ports.tools import BUILTIN, Tool, ToolContext, ToolFailed, ToolOutput, ToolSource, ToolSpec
from shared.contracts.introspection import KeyIntrospection
from shared.contracts.tools import ToolRisk
from shared.telemetry import new_registry
from tests.fakes.mcp_process import over_bare_stdio, ready

OWNER = UUID("0198f3a1-0000-7d0c-8f3e-6b1a2d4c5e6f")
SOMEBODY = UUID("0198f3a1-1111-7d0c-8f3e-6b1a2d4c5e6f")


class RecordingTool:
    """Remembers for whom it ran, and fails as often as it is told."""

    def __init__(
        self, name: str, risk: ToolRisk, *, repeatable: bool = True, failures: int = 0, seconds: float = 30.0
    ) -> None:
        self.spec = ToolSpec(
            name=name,
            title=name,
            description="",
            source=BUILTIN,
            risk=risk,
            repeatable=repeatable,
            parameters={
                "type": "object",
                "properties": {"text": {"type": "string", "maxLength": 10}, "seconds": {"type": "number"}},
                "additionalProperties": False,
            },
            timeout_seconds=seconds,
        )
        self.contexts: list[ToolContext] = []
        self.cancelled = 0
        self._failures = failures

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        self.contexts.append(context)
        if len(self.contexts) <= self._failures:
            raise ToolFailed("Not now.", retryable=True)
        try:
            await asyncio.sleep(arguments.get("seconds", 0))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return ToolOutput(f"ran: {arguments.get('text', '')}")


class OneKey:
    """Knows the key `cq_known`, which is `OWNER`'s."""

    async def introspect(self, key: str) -> KeyIntrospection:
        known = key == "cq_known"
        return KeyIntrospection(
            active=known, user_id=OWNER if known else None, scopes=["agent:invoke"] if known else []
        )


OpenTools = Callable[..., Any]


@pytest.fixture
def open_tools(agent_settings: Callable[..., AgentSettings], service_token: str) -> OpenTools:
    """A client of an agent with these tools."""

    @asynccontextmanager
    async def open_(builtins: Sequence[Tool] = (), sources: Sequence[ToolSource] = ()) -> AsyncGenerator[Any]:
        catalog = ToolCatalog(builtins, sources)

        def parts(settings: AgentSettings) -> Parts:
            runner = ToolRunner(ToolLimits(retry_base=0.01), ToolMetrics(new_registry()))
            return replace(assemble(settings), catalog=catalog, tool_runner=runner, keys=OneKey())

        app = create_app(agent_settings(), parts)
        await catalog.start()
        try:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://agent.test",
                headers={"Authorization": f"Bearer {service_token}"},
            ) as client:
                yield client
        finally:
            await catalog.aclose()

    return open_


async def test_tools_are_listed_with_the_health_of_their_sources(open_tools: OpenTools) -> None:
    up = McpSource("wiki", over_bare_stdio(env={"KEY": "the-secret"}, safe=["echo"], tools=["echo", "add"]), McpTimes())
    down = McpSource("broken", over_bare_stdio("--crash", env={"KEY": "the-secret"}), McpTimes())
    async with open_tools([RecordingTool("calculator", ToolRisk.SAFE)], [up, down]) as client:
        await ready(up)
        async with asyncio.timeout(30):
            while down.state().error is None:
                await asyncio.sleep(0.02)

        answer = await client.get("/v1/tools")

    assert answer.status_code == 200
    assert "the-secret" not in answer.text
    listed = answer.json()
    assert {tool["name"]: (tool["source"], tool["risk"], tool["repeatable"]) for tool in listed["items"]} == {
        "calculator": ("builtin", "safe", True),
        "wiki__echo": ("mcp:wiki", "safe", False),
        "wiki__add": ("mcp:wiki", "risky", False),
    }
    wiki, broken = listed["sources"]
    assert wiki == {"name": "mcp:wiki", "state": "ready", "tools": 2, "restarts": 0, "error": None}
    assert (broken["name"], broken["tools"]) == ("mcp:broken", 0)
    assert broken["error"] == "Its process ended with code 3."


async def test_a_tool_of_an_mcp_server_runs(open_tools: OpenTools) -> None:
    source = McpSource("fake", over_bare_stdio(safe=["add"]), McpTimes())
    async with open_tools([], [source]) as client:
        await ready(source)
        answer = await client.post("/v1/tools/fake__add", json={"arguments": {"a": 1, "b": 2}})
        unfit = await client.post("/v1/tools/fake__add", json={"arguments": {"a": "one"}})
        unapproved = await client.post("/v1/tools/fake__echo", json={"arguments": {"text": "x"}})
        approved = await client.post("/v1/tools/fake__echo", json={"arguments": {"text": "x"}, "approved": True})
        failed = await client.post("/v1/tools/fake__exit_now", json={"arguments": {}, "approved": True})

    body = answer.json()
    assert body.pop("duration_ms") < 30_000
    assert body == {"outcome": "succeeded", "content": "3", "passages": [], "problem": None, "attempts": 1}
    assert (unfit.status_code, unfit.json()["code"]) == (422, "tool-arguments-invalid")
    assert unfit.json()["errors"]
    assert (unapproved.status_code, unapproved.json()["code"]) == (403, "approval-required")
    assert approved.json()["content"] == "x"
    assert failed.status_code == 200
    assert (failed.json()["outcome"], failed.json()["attempts"]) == ("failed", 1)
    assert failed.json()["problem"]["code"] == "tool-outcome-unknown"


@pytest.mark.parametrize("said", [None, False])
async def test_a_risky_tool_never_runs_unapproved(open_tools: OpenTools, said: bool | None) -> None:
    tool = RecordingTool("delete", ToolRisk.RISKY)
    async with open_tools([tool]) as client:
        body = {"arguments": {}} if said is None else {"arguments": {}, "approved": said}
        assert (await client.post("/v1/tools/delete", json=body)).status_code == 403
        for odd in (1, "true", "yes", [True], None):
            answer = await client.post("/v1/tools/delete", json={"arguments": {}, "approved": odd})
            assert answer.status_code == 422
    assert tool.contexts == []


async def test_arguments_that_do_not_fit_run_nothing(open_tools: OpenTools) -> None:
    tool = RecordingTool("echo", ToolRisk.SAFE)
    async with open_tools([tool]) as client:
        for arguments in ({"text": 1}, {"text": "x" * 11}, {"other": 1}):
            answer = await client.post("/v1/tools/echo", json={"arguments": arguments})
            assert (answer.status_code, answer.json()["code"]) == (422, "tool-arguments-invalid")
    assert tool.contexts == []


async def test_a_tool_that_is_not_there_is_not_found(open_tools: OpenTools) -> None:
    async with open_tools([RecordingTool("echo", ToolRisk.SAFE)]) as client:
        answer = await client.post("/v1/tools/other", json={"arguments": {}})
        assert (answer.status_code, answer.json()["code"]) == (404, "tool-not-found")
        assert (await client.post("/v1/tools/a%2Fb", json={"arguments": {}})).status_code in (404, 422)


async def test_failures_are_repeated_where_that_is_safe(open_tools: OpenTools) -> None:
    safe = RecordingTool("safe", ToolRisk.SAFE, failures=2)
    once = RecordingTool("once", ToolRisk.SAFE, repeatable=False, failures=2)
    async with open_tools([safe, once]) as client:
        repeated = (await client.post("/v1/tools/safe", json={"arguments": {"text": "x"}})).json()
        failed = (await client.post("/v1/tools/once", json={"arguments": {"text": "x"}})).json()
    assert (repeated["outcome"], repeated["attempts"], repeated["content"]) == ("succeeded", 3, "ran: x")
    assert (failed["outcome"], failed["attempts"], failed["problem"]["code"]) == ("failed", 1, "tool-failed")
    assert len(once.contexts) == 1


async def test_a_tool_that_takes_too_long_is_stopped(open_tools: OpenTools) -> None:
    tool = RecordingTool("slow", ToolRisk.SAFE, seconds=0.5)
    async with open_tools([tool]) as client:
        answer = (await client.post("/v1/tools/slow", json={"arguments": {"seconds": 600}})).json()
    assert (answer["outcome"], answer["problem"]["code"]) == ("timed_out", "tool-timed-out")
    assert tool.cancelled == 1


async def test_a_service_names_the_user_and_the_owner_of_a_key_is_themselves(open_tools: OpenTools) -> None:
    tool = RecordingTool("echo", ToolRisk.SAFE)
    collection, session = uuid4(), uuid4()
    body = {
        "arguments": {},
        "collections": [str(collection)],
        "retrieval": {"top_k": 3},
        "user": {"id": str(SOMEBODY), "session_id": str(session)},
    }
    async with open_tools([tool]) as client:
        assert (await client.post("/v1/tools/echo", json=body)).status_code == 200
        key = {"Authorization": "Bearer cq_known"}
        assert (await client.post("/v1/tools/echo", json=body, headers=key)).status_code == 200
        assert (await client.post("/v1/tools/echo", json={"arguments": {}}, headers=key)).status_code == 200
        stranger = {"Authorization": "Bearer cq_unknown"}
        assert (await client.post("/v1/tools/echo", json=body, headers=stranger)).status_code == 401
        assert (await client.get("/v1/tools", headers=stranger)).status_code == 401

    by_service, by_key, alone = tool.contexts
    assert (by_service.owner_id, by_service.user_id, by_service.session_id) == (None, SOMEBODY, session)
    assert (by_service.collections, by_service.retrieval.top_k) == ((collection,), 3)
    assert (by_key.owner_id, by_key.user_id) == (OWNER, OWNER)
    assert (alone.owner_id, alone.user_id) == (OWNER, OWNER)


async def test_servers_of_the_settings_are_there(open_agent: Any, tmp_path: Path) -> None:
    config = tmp_path / "servers.json"
    server = {"command": sys.executable, "args": ["-m", "mcp_server_time"], "safe": ["convert_time"]}
    config.write_text(json.dumps({"mcpServers": {"time": server, "gone": {"command": "no-such-command"}}}))
    async with open_agent(mcp_config=config) as client:
        async with asyncio.timeout(60):
            while (listed := (await client.get("/v1/tools")).json())["sources"][0]["state"] != "ready":
                await asyncio.sleep(0.05)
        assert {"calculator", "time__convert_time"} <= {tool["name"] for tool in listed["items"]}
        assert listed["sources"][1]["error"] == "Its command is not found."
        nowhere = {"arguments": {"timezone": "Nowhere/At_All"}, "approved": True}
        refused = (await client.post("/v1/tools/time__get_current_time", json=nowhere)).json()
        assert (refused["outcome"], refused["problem"]["code"]) == ("failed", "tool-failed")
        arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        answer = await client.post("/v1/tools/time__convert_time", json={"arguments": arguments})
        assert json.loads(answer.json()["content"])["time_difference"] == "+9.0h"
