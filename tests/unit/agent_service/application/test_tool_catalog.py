"""Which tools there are: built in, and from sources that come and go."""

from __future__ import annotations

import pytest

from agent_service.application.tool_catalog import ToolCatalog
from shared.contracts.tools import MAX_TOOLS, ToolRisk
from tests.fakes.tools import FakeSource, FakeTool

CLOCK = FakeTool("clock")
PIER = FakeTool("harbour__pier", source="mcp:harbour", risk=ToolRisk.RISKY)
BOAT = FakeTool("harbour__boat", source="mcp:harbour")


def catalog(*sources: FakeSource) -> ToolCatalog:
    return ToolCatalog([CLOCK], sources or [FakeSource(offered=[PIER, BOAT])])


@pytest.mark.parametrize(
    ("patterns", "offered"),
    [
        ([], []),
        (["clock"], [CLOCK]),
        (["mcp:harbour"], [PIER, BOAT]),
        (["harbour__boat", "mcp:harbour", "clock", "clock"], [BOAT, PIER, CLOCK]),
        (["gone", "mcp:gone", "clock"], [CLOCK]),
        (["builtin"], []),
    ],
)
def test_offers_what_is_named(patterns: list[str], offered: list[FakeTool]) -> None:
    assert catalog().offered(patterns) == offered


def test_offers_a_bounded_number() -> None:
    source = FakeSource(offered=[FakeTool(f"tool{number}", source="mcp:harbour") for number in range(MAX_TOOLS + 5)])
    assert len(catalog(source).offered(["mcp:harbour"])) == MAX_TOOLS


def test_tools_of_sources_come_and_go() -> None:
    source = FakeSource()
    tools = catalog(source)
    assert tools.find("harbour__boat") is None
    source.offered.append(BOAT)
    assert tools.find("harbour__boat") is BOAT
    source.offered.clear()
    assert tools.find("harbour__boat") is None


def test_nobody_takes_the_name_of_a_built_in_tool() -> None:
    impostor = FakeTool("clock", source="mcp:harbour")
    tools = catalog(FakeSource(offered=[impostor]))
    assert tools.find("clock") is CLOCK
    assert tools.offered(["clock", "mcp:harbour"]) == [CLOCK]
    assert [item.source for item in tools.listing().items] == ["builtin"]


def test_lists_tools_and_sources() -> None:
    listing = catalog().listing()
    assert [(item.name, item.source, item.risk) for item in listing.items] == [
        ("clock", "builtin", ToolRisk.SAFE),
        ("harbour__pier", "mcp:harbour", ToolRisk.RISKY),
        ("harbour__boat", "mcp:harbour", ToolRisk.SAFE),
    ]
    assert [(item.name, item.tools) for item in listing.sources] == [("mcp:harbour", 2)]


async def test_starts_and_closes_every_source() -> None:
    broken, sound = FakeSource(close_error=RuntimeError("broken")), FakeSource("mcp:other")
    tools = catalog(broken, sound)
    await tools.start()
    assert (broken.started, sound.started) == (1, 1)
    await tools.aclose()
    assert (broken.closed, sound.closed) == (1, 1)
