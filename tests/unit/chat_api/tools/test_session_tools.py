"""What a name in a list of tools stands for."""

from __future__ import annotations

import pytest

from chat_api.tools.session_tools import is_meant
from tests.fakes.agent import CALCULATOR

TIDES = CALCULATOR.model_copy(update={"name": "harbour__tides", "source": "mcp:harbour"})


@pytest.mark.parametrize("name", ["harbour__tides", "mcp:harbour"])
def test_a_tool_is_named_by_itself_or_by_its_server(name: str) -> None:
    assert is_meant(name, TIDES)


@pytest.mark.parametrize("name", ["harbour", "mcp:harbour__tides", "mcp:har", "tides", "builtin", "mcp:builtin"])
def test_nothing_else_stands_for_it(name: str) -> None:
    assert not is_meant(name, TIDES)
    assert not is_meant(name, CALCULATOR)
