"""The list of tools, as the agent gives it."""

from __future__ import annotations

import httpx
import pytest

from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.clients.tools import HttpAgentTools
from chat_api.config import ApiSettings
from shared.contracts.tools import ToolList
from shared.settings import Environment
from tests.fakes.agent import CALCULATOR

SETTINGS = ApiSettings(environment=Environment.TEST)


def answering(answer: httpx.Response | Exception) -> HttpAgentTools:
    def handle(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/v1/tools")
        assert request.headers["authorization"].startswith("Bearer ")
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpAgentTools(SETTINGS, transport=httpx.MockTransport(handle))


async def test_it_is_read_as_it_comes() -> None:
    listed = ToolList(items=[CALCULATOR], sources=[])
    tools = answering(httpx.Response(200, content=listed.model_dump_json()))

    assert await tools.listing() == listed
    await tools.close()


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (httpx.ConnectError("no"), AgentUnavailable),
        (httpx.Response(503), AgentUnavailable),
        (httpx.Response(500), AgentBrokeOff),
        (httpx.Response(200, content=b"[]"), AgentBrokeOff),
        (httpx.Response(200, content=b'{"items": [{}], "sources": []}'), AgentBrokeOff),
        (
            httpx.Response(403, json={"title": "No", "status": 403, "detail": "No.", "code": "forbidden"}),
            AgentRefused,
        ),
    ],
)
async def test_whatever_else_comes_is_a_problem(answer: httpx.Response | Exception, raised: type[Exception]) -> None:
    tools = answering(answer)

    with pytest.raises(raised):
        await tools.listing()
    await tools.close()
