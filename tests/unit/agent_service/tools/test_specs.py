"""What holds for every built-in tool."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest

from agent_service.adapters.tool_wiring import assemble_tools
from agent_service.config import AgentSettings
from agent_service.ports.tools import BUILTIN, Tool, ToolContext
from shared.contracts.tools import SEARCH_KNOWLEDGE, ToolRisk
from shared.json_schema import schema_errors
from tests.fakes.passages import FakePassageSearch

NAMES = ("calculator", "current_time", SEARCH_KNOWLEDGE, "search_messages", "fetch_url")


class NoMessages:
    async def search(self, query: str, context: ToolContext, *, limit: int) -> str:
        raise AssertionError("nobody asks here")


def tools(**settings: Any) -> dict[str, Tool]:
    found = assemble_tools(AgentSettings(_env_file=None, **settings), FakePassageSearch(), NoMessages())
    return {tool.spec.name: tool for tool in found}


def test_all_are_there() -> None:
    assert tuple(tools()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_model_and_a_provider_can_read_the_schema(name: str) -> None:
    spec = tools()[name].spec
    assert spec.source == BUILTIN
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", spec.name)
    assert len(spec.description) < 200
    assert spec.parameters["type"] == "object"
    assert spec.parameters["additionalProperties"] is False
    for argument in spec.parameters["properties"].values():
        assert argument["description"]
        assert "maxLength" in argument if argument["type"] == "string" else "maximum" in argument
    assert schema_errors(spec.parameters, {"another": 1})


def test_only_the_tool_that_reaches_out_is_risky() -> None:
    assert [name for name, tool in tools().items() if tool.spec.risk is ToolRisk.RISKY] == ["fetch_url"]
    assert all(tool.spec.repeatable for tool in tools().values())


def test_times_are_those_of_the_settings() -> None:
    found = tools(fetch_seconds=2, retrieval_seconds=3, message_search_seconds=4)
    assert found[SEARCH_KNOWLEDGE].spec.timeout_seconds == 3
    assert found["search_messages"].spec.timeout_seconds == 4
    # It tells of its own time before somebody else stops it.
    assert 2 < found["fetch_url"].spec.timeout_seconds <= 3


@pytest.mark.parametrize(
    ("name", "arguments", "fits"),
    [
        ("calculator", {"expression": "1+1"}, True),
        ("calculator", {"expression": "1" * 501}, False),
        ("calculator", {"expression": ""}, False),
        ("calculator", {}, False),
        ("current_time", {}, True),
        ("current_time", {"timezone": "Etc/GMT+5"}, True),
        ("current_time", {"timezone": ""}, True),
        ("current_time", {"timezone": "Europe/Berlin; rm"}, False),
        (SEARCH_KNOWLEDGE, {"query": "a", "limit": 10}, True),
        (SEARCH_KNOWLEDGE, {"query": "a", "limit": 11}, False),
        (SEARCH_KNOWLEDGE, {"query": "a", "limit": 0}, False),
        ("search_messages", {"query": "a" * 501}, False),
        ("fetch_url", {"url": "https://site.example/"}, True),
        ("fetch_url", {"url": "https://site.example/" + "a" * 2000}, False),
        ("fetch_url", {"url": str(uuid4()), "method": "POST"}, False),
    ],
)
def test_what_fits_the_schema(name: str, arguments: dict[str, Any], fits: bool) -> None:
    assert (schema_errors(tools()[name].spec.parameters, arguments) == []) is fits
