"""The chat API without its stores: it starts, says so plainly and soon, and never breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from chat_api.kit.models import new_id
from tests.factories.chat import API, ChatApi, Person, chat_api, problem
from tests.stores import Database


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound but not listening, so that nobody else can take it and everybody is refused."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
async def away(closed_port: int) -> AsyncIterator[ChatApi]:
    """A chat API whose PostgreSQL and Valkey are not there."""
    nowhere = f"127.0.0.1:{closed_port}"
    async with chat_api(f"postgresql://api:none@{nowhere}/chat", f"redis://{nowhere}/0") as chat:
        yield chat


def someone(chat: ChatApi) -> Person:
    user_id = new_id()
    token = chat.app.state.authenticator.mint_access_token(user_id)
    return Person(user_id, "someone", {"Authorization": f"Bearer {token}"})


async def test_it_starts_and_every_route_says_unavailable(away: ChatApi) -> None:
    headers = someone(away).headers
    session = f"{API}/sessions/{new_id()}"
    requests = [
        ("GET", f"{API}/sessions", None),
        ("POST", f"{API}/sessions", {}),
        ("GET", session, None),
        ("PATCH", session, {"title": "x"}),
        ("DELETE", session, None),
        ("GET", f"{session}/messages", None),
        ("POST", f"{session}/messages", {"content": "x"}),
        ("DELETE", f"{session}/messages", None),
        ("GET", f"{session}/messages/{new_id()}", None),
        ("GET", f"{session}/status", None),
        ("GET", f"{API}/runs/{new_id()}", None),
        ("GET", f"{API}/runs/{new_id()}/events", None),
        ("POST", f"{API}/runs/{new_id()}/cancel", None),
        ("GET", f"{API}/users/me", None),
        ("GET", f"{API}/api-keys", None),
    ]
    for method, path, body in requests:
        answer = await away.client.request(method, path, json=body, headers=headers)
        assert problem(answer) == (503, "service-unavailable"), (method, path)
        assert int(answer.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in answer.text


async def test_its_health_shows_what_is_down(away: ChatApi) -> None:
    ready = await away.client.get("/health/ready")
    assert ready.status_code == 503
    shown = ready.json()
    assert shown["status"] == "down"
    assert {name: found["status"] for name, found in shown["dependencies"].items()} == {
        "database": "down",
        "agent": "ok",
        "redis": "down",
    }
    assert shown["dependencies"]["database"]["error"]
    assert "127.0.0.1" not in ready.text
    database = await away.client.get("/health/db")
    assert problem(database) == (503, "database-down")
    assert database.headers["cache-control"] == "no-store"
    assert (await away.client.get("/health/live")).status_code == 200
    assert (await away.client.get("/metrics")).status_code == 200


async def test_without_redis_conversations_work(clean_database: Database, closed_port: int) -> None:
    for redis_url in (None, f"redis://127.0.0.1:{closed_port}/0"):
        async with chat_api(clean_database.api_url, redis_url) as chat:
            person = await chat.person("with" if redis_url else "without")
            session = await chat.session(person)
            exchange = await chat.said(person, session, "Hi")
            assert exchange["reply"]["content"] == "You said: Hi"
            assert (await chat.client.get("/health/ready")).status_code == 200


async def test_full_pools_do_not_keep_anybody_waiting(clean_database: Database) -> None:
    limits: dict[str, Any] = {
        "db_pool_size": 1,
        "db_max_overflow": 0,
        "db_statement_pool_size": 1,
        "db_pool_seconds": 1,
    }
    # Runs are looked for now and then; here that would take the only connection away from the test.
    async with chat_api(clean_database.api_url, None, run_poll_seconds=60, **limits) as chat:
        person = await chat.person()
        database = chat.app.state.database
        async with contextlib.AsyncExitStack() as stack:
            work = await stack.enter_async_context(database.unit())
            await work.execute(text("SELECT 1"))
            sleeper = asyncio.create_task(database.fetch_row("SELECT pg_sleep(60)"))
            async with asyncio.timeout(30):
                while database.connections_in_use() < 2:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                answers = await asyncio.gather(
                    chat.client.get(f"{API}/sessions", headers=person.headers),
                    chat.client.get(f"{API}/sessions/{new_id()}/messages", headers=person.headers),
                )
            for answer in answers:
                assert problem(answer) == (503, "service-unavailable")
                assert answer.headers["retry-after"] == "1"
            sleeper.cancel()
            await asyncio.gather(sleeper, return_exceptions=True)
        assert (await chat.client.get(f"{API}/sessions", headers=person.headers)).status_code == 200
