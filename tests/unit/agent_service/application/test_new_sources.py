"""A turn while servers of tools are not there yet: the agent has just started."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from agent_service.application.run_turn import TurnLimits
from shared.contracts.chat import ErrorEvent
from shared.contracts.tools import ToolSourceRead, ToolSourceState
from tests.factories.tool_turns import Turns, approve, asked_for, turns, types_of
from tests.fakes.tools import FakeSource, FakeTool


@dataclass
class NewSource(FakeSource):
    """Its session is being opened. `restarts` counts those that were tried before."""

    is_opening: bool = True
    restarts: int = 0

    def state(self) -> ToolSourceRead:
        state = ToolSourceState.STARTING if self.is_opening else ToolSourceState.READY
        return ToolSourceRead(name=self.name, state=state, tools=len(self.offered), restarts=self.restarts, error=None)

    def arrive(self, tool: FakeTool) -> None:
        self.offered.append(tool)
        self.is_opening = False


def with_source(source: NewSource) -> tuple[Turns, FakeTool]:
    return turns(sources=[source]), FakeTool("harbour__pier", source="mcp:harbour")


@pytest.mark.parametrize("pattern", ["harbour__pier", "mcp:harbour"])
async def test_an_approved_call_waits_for_its_server(pattern: str) -> None:
    source = NewSource()
    tried, tool = with_source(source)
    asyncio.get_running_loop().call_later(0.1, source.arrive, tool)
    asked = asked_for("c1", name="harbour__pier")
    events = await tried.run(asked, tools=[pattern], decisions=[approve("c1")])
    assert len(tool.calls) == 1
    assert types_of(events)[0] == "tool_result"


@pytest.mark.parametrize(
    ("source", "tools"),
    [
        (NewSource(), ["look"]),
        (NewSource(), []),
        (NewSource(), ["mcp:another"]),
        (NewSource(is_opening=False), ["harbour__pier"]),
        (NewSource(restarts=1), ["harbour__pier"]),
    ],
    ids=["another tool", "no tool", "another server", "a tool that it has not", "a server that comes back"],
)
async def test_nothing_else_is_waited_for(source: NewSource, tools: list[str]) -> None:
    tried, _ = with_source(source)
    started = time.perf_counter()
    await tried.run(tools=tools)
    assert time.perf_counter() - started < 20


async def test_it_is_not_waited_for_for_ever() -> None:
    tried = turns(sources=[NewSource()], limits=TurnLimits(delta_interval=0.0, new_servers=0.1))
    asked = asked_for("c1", name="harbour__pier")
    events = await tried.run(asked, tools=["harbour__pier"], decisions=[approve("c1")])
    assert types_of(events)[0] == "tool_result", "the model is told that there is no such tool"


async def test_a_stop_ends_the_wait() -> None:
    tried, _ = with_source(NewSource())
    asyncio.get_running_loop().call_later(0.05, tried.runner.stop)
    started = time.perf_counter()
    [event] = await tried.run(tools=["mcp:harbour"])
    assert time.perf_counter() - started < 20
    assert isinstance(event, ErrorEvent)
    assert event.problem.code == "agent-restarting"
