"""Which tools a session has."""

from __future__ import annotations

import pytest

from chat_api.bots.models import AgentType
from chat_api.bots.schemas import BotConfiguration
from chat_api.bots.tools import effective_tools
from shared.contracts.tools import MAX_TOOLS

BOTS_OWN = ["calculator", "mcp:harbour"]


def bot(agent_type: AgentType, tools: list[str] | None = None) -> BotConfiguration:
    return BotConfiguration(agent_type=agent_type, tools=BOTS_OWN if tools is None else tools)


def test_without_a_bot_there_are_the_sessions_own() -> None:
    assert effective_tools(None, None, False) == []
    assert effective_tools(["calculator"], None, False) == ["calculator"]


@pytest.mark.parametrize(("own", "expected"), [(None, BOTS_OWN), (["fetch_url"], ["fetch_url"]), ([], [])])
@pytest.mark.parametrize("agent_type", [AgentType.CHAT, AgentType.RAG])
def test_the_sessions_own_stand_in_place_of_the_bots(
    own: list[str] | None, expected: list[str], agent_type: AgentType
) -> None:
    assert effective_tools(own, bot(agent_type), True) == expected


def test_a_bot_that_looks_things_up_itself_always_has_the_tool_for_it() -> None:
    react = bot(AgentType.REACT)

    assert effective_tools(None, react, True) == ["search_knowledge", *BOTS_OWN]
    assert effective_tools([], react, True) == ["search_knowledge"]
    assert effective_tools(None, react, False) == BOTS_OWN


def test_each_is_named_once() -> None:
    named = ["calculator", "search_knowledge", "calculator"]

    react = bot(AgentType.REACT, named)

    assert effective_tools(None, react, True) == ["search_knowledge", "calculator"]
    assert effective_tools(None, react, False) == ["calculator", "search_knowledge"]


def test_there_are_no_more_than_a_turn_may_have() -> None:
    many = [f"tool_{number}" for number in range(MAX_TOOLS)]

    tools = effective_tools(many, bot(AgentType.REACT), True)

    assert tools == ["search_knowledge", *many[:-1]]
