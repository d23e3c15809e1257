"""Health and metrics: for load balancers, which must get an answer in time and never an old one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.factories.chat import API, ChatApi, Person, chat_api
from tests.fakes.agent import ScriptedAgent
from tests.stores import Database


class SilentAgent(ScriptedAgent):
    """An agent that cannot be reached."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused by http://secret-host:1234")


@pytest.fixture
async def lonely(clean_database: Database, redis_url: str) -> AsyncIterator[ChatApi]:
    """A chat API whose agent is down."""
    async with chat_api(clean_database.api_url, redis_url, SilentAgent()) as chat:
        yield chat


async def samples(chat: ChatApi) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await chat.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_alive(chat: ChatApi) -> None:
    answer = await chat.client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["cache-control"] == "no-store"


async def test_ready_shows_every_dependency(chat: ChatApi) -> None:
    answer = await chat.client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.json()
    assert shown["status"] == "ok"
    assert set(shown["dependencies"]) == {"database", "agent", "redis"}
    for found in shown["dependencies"].values():
        assert found == {"status": "ok", "latency_ms": found["latency_ms"], "error": None}
        assert 0 <= found["latency_ms"] < 5000


async def test_without_the_agent_it_is_still_ready(lonely: ChatApi) -> None:
    answer = await lonely.client.get("/health/ready")
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["status"] == "ok"
    assert shown["dependencies"]["agent"]["status"] == "down"
    assert shown["dependencies"]["agent"]["error"] == "ConnectError"
    assert "secret-host" not in answer.text


async def test_without_the_agent_messages_are_kept_and_their_run_fails_visibly(lonely: ChatApi) -> None:
    person = await lonely.person()
    session = await lonely.session(person)
    exchange = await lonely.said(person, session, "Hello?")
    assert exchange["run"]["status"] == "failed"
    assert exchange["run"]["error"]["code"] == "agent-unavailable"
    assert (await lonely.history(person, session))[0] == exchange["message"]


async def test_the_database_says_its_name(chat: ChatApi, clean_database: Database) -> None:
    answer = await chat.client.get("/health/db")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.json()
    assert shown == {"status": "ok", "latency_ms": shown["latency_ms"], "database": clean_database.name}


async def test_requests_are_counted_by_route_and_not_by_address(chat: ChatApi, ann: Person) -> None:
    for _ in range(3):
        session = await chat.session(ann)
        await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)
    for number in range(20):
        await chat.client.get(f"/nowhere/{number}")
        await chat.client.request(f"WEIRD{number}", f"{API}/sessions")
        await chat.client.get(f"{API}/sessions/{number}", headers=ann.headers)
    found = await samples(chat)
    counts = {
        (labels["method"], labels["route"].removeprefix(API), labels["status"]): value
        for (name, pairs), value in found.items()
        if name == "http_request_duration_seconds_count" and (labels := dict(pairs))
    }
    assert counts["POST", "/sessions", "201"] == 3
    assert counts["GET", "/sessions/{session_id}", "200"] == 3
    assert counts["GET", "/sessions/{session_id}", "422"] == 20
    assert counts["GET", "unmatched", "404"] == 20
    assert sum(count for (method, _, _), count in counts.items() if method == "OTHER") == 20
    assert {method for method, _, _ in counts} == {"POST", "GET", "OTHER"}
    assert len(counts) == 5
    assert not [route for _, route, _ in counts if re.search(r"\d{2}|[0-9a-f]{8}-", route)]


async def test_connections_and_runs_are_shown(chat: ChatApi) -> None:
    async with asyncio.timeout(30):  # whoever looks for waiting runs has one for a moment
        while (found := await samples(chat))["db_connections_in_use", ()] != 0:
            await asyncio.sleep(0.05)
    assert found["db_connections_limit", ()] > 0
    assert found["runs_active", ()] == 0
    assert found["process_resident_memory_bytes", ()] > 0


async def test_two_applications_keep_their_figures_apart(chat: ChatApi, clean_database: Database) -> None:
    await chat.client.get("/nowhere")
    async with chat_api(clean_database.api_url, None) as other:
        assert not [name for name, _ in await samples(other) if name.startswith("http_request")]
