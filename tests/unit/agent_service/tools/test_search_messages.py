from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pytest

from agent_service.ports.tools import ToolContext, ToolFailed
from agent_service.tools.search_messages import SearchMessages

CONTEXT = ToolContext(run_id=UUID(int=1), user_id=UUID(int=2), session_id=UUID(int=3))


@dataclass
class FakeMessages:
    asked: list[tuple[str, ToolContext, int]] = field(default_factory=list)

    async def search(self, query: str, context: ToolContext, *, limit: int) -> str:
        self.asked.append((query, context, limit))
        return "found"


@pytest.mark.parametrize(("arguments", "limit"), [({}, 5), ({"limit": 2}, 2), ({"limit": 10.0}, 10)])
async def test_asks_for_the_person(arguments: dict[str, object], limit: int) -> None:
    messages = FakeMessages()
    output = await SearchMessages(messages, seconds=1).call({"query": " fees ", **arguments}, CONTEXT)
    assert output.text == "found"
    assert messages.asked == [("fees", CONTEXT, limit)]


@pytest.mark.parametrize(
    ("query", "context", "said"),
    [("  ", CONTEXT, "empty"), ("fees", ToolContext(run_id=UUID(int=1)), "Nobody is known")],
)
async def test_does_not_ask_for_nothing_or_nobody(query: str, context: ToolContext, said: str) -> None:
    messages = FakeMessages()
    with pytest.raises(ToolFailed, match=said):
        await SearchMessages(messages, seconds=1).call({"query": query}, context)
    assert messages.asked == []
