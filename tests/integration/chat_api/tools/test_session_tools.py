"""What the assistant may call in a session: the session's own choice, its bot's, and what the agent has of it."""

from __future__ import annotations

import httpx
import pytest

from shared.contracts.tools import ToolList, ToolRisk, ToolSourceRead, ToolSourceState
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import CALCULATOR, FETCH_URL

TIDES = CALCULATOR.model_copy(update={"name": "harbour__tides", "source": "mcp:harbour", "risk": ToolRisk.RISKY})
SHIPS = CALCULATOR.model_copy(update={"name": "harbour__ships", "source": "mcp:harbour"})
SEARCH = CALCULATOR.model_copy(update={"name": "search_knowledge"})


@pytest.fixture(autouse=True)
def _offer(chat: ChatApi) -> None:
    source = ToolSourceRead(name="harbour", state=ToolSourceState.READY, tools=2, restarts=0, error=None)
    chat.agent.tools = ToolList(items=[CALCULATOR, FETCH_URL, TIDES, SHIPS, SEARCH], sources=[source])


async def tools_of(chat: ChatApi, person: Person, session: Json) -> Json:
    answer = await chat.client.get(f"{API}/sessions/{session['id']}/tools", headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def names(tools: Json) -> list[str]:
    return [item["name"] for item in tools["items"]]


async def test_a_session_without_a_bot_has_its_own(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, settings={"tools": ["fetch_url", "mcp:harbour", "calculator", "mcp:gone"]})

    tools = await tools_of(chat, ann, session)

    assert names(tools) == ["fetch_url", "harbour__tides", "harbour__ships", "calculator"]
    assert tools["unknown"] == ["mcp:gone"]
    assert tools["items"][0] == {
        "name": "fetch_url",
        "title": FETCH_URL.title,
        "description": FETCH_URL.description,
        "source": "builtin",
        "risk": "risky",
        "parameters": FETCH_URL.parameters,
        "needs_approval": True,
    }


@pytest.mark.parametrize(
    ("mode", "asked_for"), [("never", []), ("risky", ["fetch_url"]), ("always", ["calculator", "fetch_url"])]
)
async def test_each_says_whether_it_waits_for_a_person(
    chat: ChatApi, ann: Person, mode: str, asked_for: list[str]
) -> None:
    session = await chat.session(ann, settings={"tools": ["calculator", "fetch_url"]}, approval_mode=mode)

    tools = await tools_of(chat, ann, session)

    assert tools["approval_mode"] == mode
    assert [item["name"] for item in tools["items"] if item["needs_approval"]] == asked_for


async def test_a_bots_tools_hold_until_the_session_has_its_own(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, configuration={"agent_type": "chat", "tools": ["calculator"]})

    assert names(await tools_of(chat, ann, await chat.session(ann, bot_id=bot["id"]))) == ["calculator"]
    own = await chat.session(ann, bot_id=bot["id"], settings={"tools": ["fetch_url"]})
    assert names(await tools_of(chat, ann, own)) == ["fetch_url"]
    none = await chat.session(ann, bot_id=bot["id"], settings={"tools": []})
    assert names(await tools_of(chat, ann, none)) == []


async def test_a_bot_that_looks_things_up_itself_has_the_tool_for_it(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, configuration={"agent_type": "react", "tools": ["calculator"]})
    session = await chat.session(ann, bot_id=bot["id"])
    without = await tools_of(chat, ann, session)
    await chat.document_row(bot, deleted=True)
    deleted = await tools_of(chat, ann, session)
    await chat.document_row(bot)

    assert names(without) == names(deleted) == ["calculator"]
    assert names(await tools_of(chat, ann, session)) == ["search_knowledge", "calculator"]


async def test_a_bot_that_nobody_may_use_has_none(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, configuration={"agent_type": "chat", "tools": ["calculator"]})
    session = await chat.session(ann, bot_id=bot["id"])
    await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)

    assert await tools_of(chat, ann, session) == {"approval_mode": "risky", "items": [], "unknown": []}


async def test_with_the_agent_away_nobody_knows(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, settings={"tools": ["calculator"]})
    bare = await chat.session(ann)
    path = f"{API}/sessions/{session['id']}/tools"
    chat.agent.tools_answer = httpx.Response(503)
    away = await chat.client.get(path, headers=ann.headers)
    chat.agent.tools_answer = httpx.Response(200, json={"items": "none"})
    confused = await chat.client.get(path, headers=ann.headers)

    assert problem(away) == (503, "agent-unavailable")
    assert "retry-after" in away.headers
    assert problem(confused) == (502, "agent-broke-off")
    assert names(await tools_of(chat, ann, bare)) == []


async def test_only_participants_are_told(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, settings={"tools": ["calculator"]})
    answer = await chat.client.get(f"{API}/sessions/{session['id']}/tools", headers=bob.headers)
    await chat.join(session, bob)

    assert problem(answer) == (404, "session-not-found")
    assert names(await tools_of(chat, bob, session)) == ["calculator"]
