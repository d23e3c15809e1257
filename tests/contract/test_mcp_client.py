"""The official client of the Model Context Protocol against the chat API, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from pydantic import SecretStr

import chat_api.main
from chat_api.config import ApiSettings
from shared.settings import Environment
from tests.factories.served import served
from tests.fakes.agent import ScriptedAgent
from tests.fakes.password_hasher import RecordingHasher
from tests.stores import Database

API = "/api/v1"
PASSWORD = "correct horse battery staple"


@dataclass
class Caller:
    """Somebody who signed in, and the address to call."""

    address: str
    headers: dict[str, str]

    @classmethod
    def registered(cls, address: str, name: str) -> Caller:
        body = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            assert client.post(f"{API}/auth/register", json=body).status_code == 201
            token = client.post(f"{API}/auth/token", data={"username": name, "password": PASSWORD})
        return cls(address, {"Authorization": f"Bearer {token.json()['access_token']}"})

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        with httpx.Client(base_url=self.address, trust_env=False, timeout=60, headers=self.headers) as client:
            answer = client.post(f"{API}{path}", json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ClientSession]:
        async with (
            httpx.AsyncClient(headers=self.headers, trust_env=False, timeout=60) as client,
            streamable_http_client(f"{self.address}/mcp", http_client=client) as (reading, writing, session_id),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            assert session_id() is None, "the server keeps no sessions"
            yield session


@pytest.fixture(scope="module")
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture(scope="module")
def address(new_database: Callable[..., Database], agent: ScriptedAgent) -> Iterator[str]:
    loaded = ApiSettings(environment=Environment.TEST, database_url=SecretStr(new_database().api_url), redis_url=None)
    app = chat_api.main.create_app(loaded, agent_transport=agent, passwords=RecordingHasher())
    with served(app) as address:
        yield address


@pytest.fixture(scope="module")
def ann(address: str) -> Caller:
    ann = Caller.registered(address, "ann")
    session = ann.post("/sessions", title="Port", reply_policy="never")
    ann.post(f"/sessions/{session['id']}/messages", content="The harbour fees are five euro.")
    ann.post("/bots", name="Harbour master")
    return ann


@pytest.fixture(scope="module")
def bob(address: str) -> Caller:
    return Caller.registered(address, "bob")


async def test_it_initializes_and_lists(ann: Caller) -> None:
    async with ann.session() as session:
        listed = await session.list_tools()
        await session.send_ping()

    assert {tool.name for tool in listed.tools} == {"search_knowledge", "search_messages", "list_bots"}
    assert all(tool.annotations is not None and tool.annotations.readOnlyHint for tool in listed.tools)


async def test_two_people_each_see_what_is_theirs(ann: Caller, bob: Caller) -> None:
    async def seen(caller: Caller) -> list[dict[str, Any]]:
        # The client checks what is answered against the schema that was listed.
        async with caller.session() as session:
            answers = [
                await session.call_tool("search_messages", {"query": "harbour fees"}),
                await session.call_tool("list_bots", {}),
                await session.call_tool("search_knowledge", {"query": "harbour"}),
            ]
        structured = []
        for answer in answers:
            assert answer.isError is False
            [content] = answer.content
            assert isinstance(content, types.TextContent)
            assert answer.structuredContent is not None
            assert json.loads(content.text) == answer.structuredContent
            structured.append(answer.structuredContent)
        return structured

    messages, bots, _ = await seen(ann)
    assert [message["snippet"] for message in messages["messages"]] == ["The harbour fees are five euro."]
    assert [bot["name"] for bot in bots["bots"]] == ["Harbour master"]
    assert await seen(bob) == [{"messages": []}, {"bots": []}, {"passages": []}]


async def test_failures_and_errors(ann: Caller) -> None:
    async with ann.session() as session:
        failed = await session.call_tool("search_messages", {"query": ""})
        with pytest.raises(McpError, match="There is no such tool"):
            await session.call_tool("delete_everything", {})
        with pytest.raises(McpError, match="does not offer the method"):
            await session.list_prompts()
        await session.send_ping()

    assert failed.isError is True
    assert isinstance(failed.content[0], types.TextContent)
    assert failed.content[0].text.startswith("The arguments do not fit. query: ")


async def test_a_credential_that_is_none(address: str) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        async with Caller(address, {"Authorization": "Bearer nonsense"}).session():
            raise AssertionError("it was let in")

    [error] = _leaves(raised.value)
    assert isinstance(error, httpx.HTTPStatusError)
    assert error.response.status_code == 401


def test_a_call_that_runs_does_not_hold_up_the_end(new_database: Callable[..., Database]) -> None:
    agent = ScriptedAgent()
    agent.collections.delay_seconds = 60
    loaded = ApiSettings(environment=Environment.TEST, database_url=SecretStr(new_database().api_url), redis_url=None)
    app = chat_api.main.create_app(loaded, agent_transport=agent, passwords=RecordingHasher())
    with served(app, timeout_graceful_shutdown=1) as address:
        ann = Caller.registered(address, "ann")
        ann.post("/bots", name="Harbour master")
        ended: list[object] = []

        def call() -> None:
            params = {"name": "search_knowledge", "arguments": {"query": "harbour"}}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            try:
                answer = httpx.post(f"{address}/mcp", json=message, headers=ann.headers, trust_env=False, timeout=90)
                ended.append(answer.status_code)
            except httpx.HTTPError as error:
                ended.append(error)

        calling = threading.Thread(target=call)
        calling.start()
        deadline = time.monotonic() + 30
        while not agent.collections.requests:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 30
    calling.join(30)
    assert len(ended) == 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
