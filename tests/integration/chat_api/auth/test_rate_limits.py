"""Requests are counted over all processes: what is let through, what the answers say, and what Valkey is needed for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from chat_api.auth.rate_limiter import RateLimiter
from chat_api.auth.rate_windows import Allowance, RateWindows
from tests.factories.chat import API, ChatApi, Person, chat_api, problem
from tests.stores import Database

FEW = {"free": {"requests_per_minute": 5, "key_requests_per_minute": 3}, "pro": {"requests_per_minute": 40}}


@asynccontextmanager
async def limited(database: Database, redis_url: str | None, **settings: Any) -> AsyncIterator[ChatApi]:
    async with chat_api(database.api_url, redis_url, **{"plans": FEW, "rate_limit_seconds": 10, **settings}) as chat:
        yield chat


@pytest.fixture
async def chat(clean_database: Database, redis_url: str) -> AsyncIterator[ChatApi]:
    async with limited(clean_database, redis_url) as chat:
        yield chat


async def me(chat: ChatApi, headers: dict[str, str]) -> httpx.Response:
    return await chat.client.get(f"{API}/users/me", headers=headers)


async def api_key(chat: ChatApi, person: Person) -> dict[str, str]:
    made = await chat.client.post(
        f"{API}/api-keys", json={"name": "a program", "scopes": ["chat:read"]}, headers=person.headers
    )
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


async def test_what_is_left_is_told_until_nothing_is(chat: ChatApi, ann: Person) -> None:
    answers = [await me(chat, ann.headers) for _ in range(7)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [int(answer.headers["RateLimit-Remaining"]) for answer in answers] == [4, 3, 2, 1, 0, 0, 0]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"5"}
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {"5;w=60"}
    assert all(0 < int(answer.headers["RateLimit-Reset"]) <= 60 for answer in answers)
    assert problem(answers[-1]) == (429, "rate-limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


async def test_one_person_takes_nothing_from_another(chat: ChatApi, ann: Person, bob: Person) -> None:
    for _ in range(6):
        await me(chat, ann.headers)

    assert (await me(chat, bob.headers)).headers["RateLimit-Remaining"] == "4"


async def test_answers_that_are_errors_say_it_too(chat: ChatApi, ann: Person) -> None:
    missing = await chat.client.get(f"{API}/sessions/0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", headers=ann.headers)
    unreadable = await chat.client.post(f"{API}/sessions", content=b"{", headers=ann.headers)

    assert (missing.status_code, missing.headers["RateLimit-Remaining"]) == (404, "4")
    assert (unreadable.status_code, unreadable.headers["RateLimit-Remaining"]) == (422, "3")


async def test_a_key_has_less_than_its_person_and_leaves_them_the_rest(chat: ChatApi, ann: Person) -> None:
    key = await api_key(chat, ann)  # one of five
    by_key = [await me(chat, key) for _ in range(6)]
    by_person = await me(chat, ann.headers)

    assert [answer.status_code for answer in by_key] == [200] * 3 + [429] * 3
    assert by_key[-1].headers["RateLimit-Limit"] == "3"
    assert by_person.status_code == 200, "what was refused by the key's limit did not count for the person"
    assert by_person.headers["RateLimit-Remaining"] == "0"


async def test_nothing_is_done_of_what_is_refused(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    answers = [await chat.send_async(ann, session, f"{number}") for number in range(4)]
    refused = await chat.send(ann, session, "one too many")

    assert problem(refused) == (429, "rate-limited")
    [row] = await chat.rows("SELECT count(*) AS said FROM chat.messages WHERE role = 'user'")
    assert row["said"] == len(answers)


async def test_the_door_for_openais_clients_counts_once_and_refuses_in_their_shape(chat: ChatApi, ann: Person) -> None:
    body = {"model": "local", "messages": [{"role": "user", "content": "Hello"}]}
    answers = [await chat.client.post("/v1/chat/completions", json=body, headers=ann.headers) for _ in range(6)]

    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    assert answers[-1].status_code == 429
    assert answers[-1].json()["error"]["code"] == "rate-limited"


async def test_another_plan_holds_at_once(chat: ChatApi, ann: Person, bob: Person) -> None:
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", bob.id)
    for _ in range(6):
        await me(chat, ann.headers)
    changed = await chat.client.patch(f"{API}/admin/users/{ann.id}", json={"plan": "pro"}, headers=bob.headers)

    assert changed.status_code == 200, changed.text
    answer = await me(chat, ann.headers)
    assert (answer.status_code, answer.headers["RateLimit-Limit"]) == (200, "40")


async def test_without_a_limit_nothing_is_said_of_one(clean_database: Database, redis_url: str) -> None:
    async with limited(clean_database, redis_url, plans={"free": {"requests_per_minute": None}}) as chat:
        answer = await me(chat, (await chat.person()).headers)

    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


async def test_two_processes_let_the_quota_through_between_them(clean_database: Database, redis_url: str) -> None:
    plans = {"free": {"requests_per_minute": 60}}
    async with (
        limited(clean_database, redis_url, plans=plans) as one,
        limited(clean_database, redis_url, plans=plans) as other,
    ):
        ann = await one.person()
        asked = [chat.client.get(f"{API}/plans", headers=ann.headers) for _ in range(50) for chat in (one, other)]
        answers = await asyncio.gather(*asked)

    assert sorted(answer.status_code for answer in answers) == [200] * 60 + [429] * 40


async def test_without_valkey_each_process_counts_by_itself(clean_database: Database) -> None:
    async with limited(clean_database, None) as chat:
        ann = await chat.person()
        answers = [await me(chat, ann.headers) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].headers["RateLimit-Limit"] == "5"


async def test_sign_ins_to_one_account_are_few_and_to_others_go_on(clean_database: Database, redis_url: str) -> None:
    async with limited(clean_database, redis_url, sign_ins_per_minute=3) as chat:

        async def sign_in(name: str) -> httpx.Response:
            form = {"username": name, "password": "guessed"}
            return await chat.client.post(f"{API}/auth/token", data=form)

        answers = [await sign_in(name) for name in ("ann", "Ann", "ANN", "ann")]
        other = await sign_in("bob")

    assert [problem(answer) for answer in answers] == [(401, "invalid-credentials")] * 3 + [(429, "too-many-sign-ins")]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert problem(other) == (401, "invalid-credentials")


async def test_one_address_cannot_try_account_after_account(clean_database: Database, redis_url: str) -> None:
    async with limited(clean_database, redis_url, address_sign_ins_per_minute=4) as chat:
        answers = []
        for number in range(4):
            form = {"username": f"person-{number}", "password": "guessed"}
            answers.append(await chat.client.post(f"{API}/auth/token", data=form))
        renewed = await chat.client.post(f"{API}/auth/refresh", json={"refresh_token": "guessed"})

    assert {answer.status_code for answer in answers} == {401}
    assert problem(renewed) == (429, "too-many-sign-ins")


async def test_the_windows_survive_that_valkey_forgets_the_scripts(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    limiter = RateLimiter(RateWindows(redis), seconds=10)
    allowance = Allowance("user:somebody", 3)
    try:
        first = await limiter.admit([allowance])
        await redis.script_flush()
        second = await limiter.admit([allowance])
    finally:
        await limiter.close()
        await redis.aclose()

    assert first is not None
    assert second is not None
    assert [first.remaining, second.remaining] == [2, 1]


async def test_what_was_slowed_down_may_be_tried_again_at_the_openai_door(
    clean_database: Database, redis_url: str
) -> None:
    """Also where the same was asked before, and begun: that turn is not what is tried again."""
    retry = {"x-stainless-retry-count": "1"}
    body = {"model": "local", "messages": [{"role": "user", "content": "When?"}]}
    async with limited(clean_database, redis_url, plans={"free": {"requests_per_minute": 2}, "pro": {}}) as chat:
        ann = await chat.person("ann")

        async def asked(headers: dict[str, str]) -> tuple[int, str | None]:
            answer = await chat.client.post("/v1/chat/completions", json=body, headers=ann.headers | headers)
            return answer.status_code, answer.json().get("error", {}).get("code")

        assert [await asked({}) for _ in range(2)] == [(200, None)] * 2
        assert await asked({}) == (429, "rate-limited")
        assert await asked(retry) == (429, "rate-limited")
        chat.app.state.plans.remember(ann.id, "pro")

        assert await asked(retry) == (200, None)
        assert await asked(retry) == (409, "turn-already-begun")
        assert len(chat.agent.requests) == 3
