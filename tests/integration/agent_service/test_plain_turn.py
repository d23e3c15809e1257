"""The short way to a turn gives the same answers as the usual one, and hands on to it what it is not for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response

from agent_service.api.auth import AuthenticatedCaller
from agent_service.api.plain_turn import PlainTurnRoute
from agent_service.api.state import State
from agent_service.config import AgentSettings
from agent_service.main import create_app
from shared.contracts.chat import ChatRequest
from shared.web.responses import install_problem_handlers
from tests.factories.turns import events_in, turn

PLAIN = "application/json"
USUAL = "application/json; charset=utf-8"
GOOD = turn("hello there", provider="openai")
BODIES: dict[str, bytes] = {
    "good": json.dumps(GOOD).encode(),
    "two of a name": json.dumps(GOOD).encode()[:-1] + b', "spent_tokens": 1, "spent_tokens": 2}',
    "lone surrogate": json.dumps({**GOOD, "messages": [{"role": "user", "content": "\ud800"}]}).encode(),
    "no run": json.dumps({"messages": GOOD["messages"]}).encode(),
    "list": b"[]",
    "empty": b"",
    "cut": b'{"run_id": ',
    "deep": b"[" * 100_000,
    "no text": b'{"run_id": "\xff"}',
}


async def answer(agent: httpx.AsyncClient, body: bytes, media_type: str) -> tuple[int, str, Any]:
    response = await agent.post("/v1/chat", content=body, headers={"Content-Type": media_type})
    content_type = response.headers["content-type"]
    if response.status_code == 200:
        return 200, content_type, [event.type for event in events_in(response.text)]
    return response.status_code, content_type, {**response.json(), "request_id": None}


@pytest.mark.parametrize("name", list(BODIES))
async def test_both_ways_give_the_same_answer(agent: httpx.AsyncClient, name: str) -> None:
    plain, usual = [await answer(agent, BODIES[name], media_type) for media_type in (PLAIN, USUAL)]

    assert plain == usual
    assert (plain[0] == 200) is (name in ("good", "two of a name"))


@pytest.fixture
def asked() -> list[str]:
    """What FastAPI's solver was asked for, a word each time."""
    return []


@pytest.fixture
def counting(agent_settings: Callable[..., AgentSettings], asked: list[str]) -> httpx.AsyncClient:
    """A route of this kind that tells who called, and whether FastAPI's solver was asked."""

    async def solver() -> None:
        asked.append("solver")

    router = APIRouter(route_class=PlainTurnRoute, dependencies=[Depends(solver)])

    @router.post("/turn")
    async def tell(
        request: Request,
        turn: ChatRequest,
        state: State,
        caller: AuthenticatedCaller,
        accept: Annotated[str | None, Header()] = None,
    ) -> Response:
        return Response(f"{caller.name} {turn.messages[0].content} {accept}")

    app = FastAPI()
    app.state.agent = create_app(agent_settings()).state.agent
    app.include_router(router)
    install_problem_handlers(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent.test")


async def test_a_plain_turn_does_without_the_solver(
    counting: httpx.AsyncClient, service_token: str, asked: list[str]
) -> None:
    headers = {"Authorization": f"Bearer {service_token}", "Accept": "text/event-stream"}
    plain = [await counting.post("/turn", json=GOOD, headers=headers) for _ in range(2)]
    told = list(asked)
    usual = await counting.post("/turn", json=GOOD, headers={**headers, "Content-Type": USUAL})
    stranger = await counting.post("/turn", json=GOOD, headers={"Authorization": "Bearer nonsense"})
    other_method = await counting.get("/turn", headers=headers)

    assert [response.text for response in (*plain, usual)] == ["chat_api hello there text/event-stream"] * 3
    assert told == []
    assert asked[0] == "solver"
    assert (stranger.status_code, other_method.status_code) == (401, 405)
