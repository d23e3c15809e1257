"""Tokens by the day: what replies really used, however they ended, and what is refused once they are used up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from chat_api.config import ModelPrice
from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent, Provider
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Person, chat_api, problem
from tests.factories.plans import WithPlans, used
from tests.fakes.agent import DONE, USAGE, Gate, breaking_off, failing
from tests.stores import Database

LEASE: dict[str, Any] = {
    "run_lease_seconds": 2,
    "run_heartbeat_seconds": 0.1,
    "run_poll_seconds": 0.1,
    "shutdown_seconds": 0.4,
}
"""The lease is so long that a slow machine does not miss a heartbeat."""
PATIENCE_SECONDS = 60.0
AWAY = ProblemDocument(title="No", status=503, detail="The model is away.", code="model-unavailable")


async def cancelled_after(chat: ChatApi, person: Person, gate: Gate, content: str) -> dict[str, Any]:
    chat.agent.script = gate
    accepted = await chat.send_async(person, await chat.session(person), content)
    run_id = accepted["run"]["id"]
    await gate.arrival()
    await asyncio.sleep(0.1)
    cancelled = await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=person.headers)
    assert cancelled.status_code == 200, cancelled.text
    return await chat.run_ended(person, run_id, within=PATIENCE_SECONDS)


async def stored_words(chat: ChatApi) -> None:
    """Wait until what was said so far is stored, which happens with a heartbeat."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await chat.rows("SELECT FROM chat.messages WHERE role = 'assistant' AND content <> ''"):
            await asyncio.sleep(0.02)


async def test_a_reply_counts_with_what_its_provider_said(with_plans: WithPlans) -> None:
    async with with_plans(tokens_per_day=1000) as chat:
        ann = await chat.person()
        said = await chat.said(ann, await chat.session(ann))

        assert said["run"]["usage"] == USAGE.model_dump(), "nothing of it was estimated"
        assert await used(chat, ann, "tokens") == (12, 988)


async def test_no_reply_begins_once_they_are_used_up_and_people_may_still_talk(with_plans: WithPlans) -> None:
    async with with_plans(tokens_per_day=12) as chat:
        ann = await chat.person()
        session = await chat.session(ann)
        alone = await chat.session(ann, reply_policy="never")
        said = await chat.said(ann, session)
        refused = await chat.send(ann, session)
        path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}/regenerate"
        again = await chat.client.post(path, headers=ann.headers)

        assert problem(refused) == problem(again) == (429, "quota-exceeded")
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert len(await chat.history(ann, session)) == 2, "nothing was stored of what was refused"
        assert (await chat.send(ann, alone)).status_code == 201


async def test_a_cancelled_reply_counts_with_an_estimate(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person()
        run = await cancelled_after(chat, ann, Gate(first="word " * 100), "x" * 400)

        usage = run["usage"]
        assert usage["estimated"] is True
        assert usage["completion_tokens"] == 125
        assert 100 <= usage["prompt_tokens"] < 120
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert await used(chat, ann, "tokens") == (usage["total_tokens"], None)
        [reply] = await chat.rows("SELECT total_tokens FROM chat.messages WHERE role = 'assistant'")
        assert reply["total_tokens"] is None, "a message tells what its provider counted"


async def test_what_was_cancelled_before_its_first_word_used_its_prompt(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person()
        run = await cancelled_after(chat, ann, Gate(first=""), "x" * 400)

        assert run["usage"]["completion_tokens"] == 0
        assert run["usage"]["prompt_tokens"] >= 100


async def test_a_reply_that_breaks_off_counts_with_what_was_heard(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person()
        for script in (breaking_off("word " * 10), failing(AWAY, "word " * 10)):
            chat.agent.script = script
            run = (await chat.said(ann, await chat.session(ann)))["run"]

            assert run["status"] == "failed"
            assert run["usage"]["estimated"] is True
            assert run["usage"]["completion_tokens"] == 13
        assert (await used(chat, ann, "tokens"))[0] > 26


async def test_a_model_that_failed_without_a_word_used_nothing(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person()
        chat.agent.script = failing(AWAY)
        run = (await chat.said(ann, await chat.session(ann)))["run"]

        assert (run["status"], run["usage"]) == ("failed", None)
        assert await used(chat, ann, "tokens") == (0, None)


async def test_a_provider_that_counts_nothing_is_estimated(with_plans: WithPlans) -> None:
    async def uncounted(_: Any) -> Any:
        yield DeltaEvent(text="word " * 10)
        yield DONE

    async with with_plans() as chat:
        ann = await chat.person()
        chat.agent.script = uncounted
        run = (await chat.said(ann, await chat.session(ann)))["run"]

        assert (run["status"], run["usage"]["estimated"], run["usage"]["completion_tokens"]) == ("completed", True, 13)


async def test_the_use_of_a_process_that_died_is_estimated(clean_database: Database, redis_url: str) -> None:
    async with (
        chat_api(clean_database.api_url, redis_url, **LEASE) as dying,
        chat_api(clean_database.api_url, redis_url, **LEASE) as living,
    ):
        ann = await dying.person()
        dying.agent.script = gate = Gate(first="word " * 10)
        run_id = (await dying.send_async(ann, await dying.session(ann), "x" * 400))["run"]["id"]
        await gate.arrival()
        await stored_words(dying)
        await dying.engine.recovery.stop()
        run = await living.run_ended(ann, run_id, within=PATIENCE_SECONDS)

        assert run["error"]["code"] == "run-interrupted"
        assert run["usage"]["estimated"] is True
        assert run["usage"]["completion_tokens"] == 13
        assert run["usage"]["prompt_tokens"] >= 100
        assert (await used(living, ann, "tokens"))[0] == run["usage"]["total_tokens"]


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "stops"])
async def test_an_attempt_that_nobody_heard_of_counts_beside_the_one_that_answers(
    clean_database: Database, redis_url: str, *, dies: bool
) -> None:
    async with chat_api(clean_database.api_url, redis_url, **LEASE) as living:
        async with chat_api(clean_database.api_url, redis_url, **LEASE) as first:
            ann = await first.person()
            first.agent.script = gate = Gate(first="")
            run_id = (await first.send_async(ann, await first.session(ann), "x" * 400))["run"]["id"]
            await gate.arrival()
            if dies:
                await first.engine.recovery.stop()
                await living.run_ended(ann, run_id, within=PATIENCE_SECONDS)
        run = await living.run_ended(ann, run_id, within=PATIENCE_SECONDS)

        assert (run["status"], run["usage"]) == ("completed", USAGE.model_dump())
        assert 112 <= (await used(living, ann, "tokens"))[0] < 132


async def test_a_cancelled_reply_knows_its_model_and_what_it_cost(with_plans: WithPlans) -> None:
    """Also in a session that names none: the agent says who answers with the first word."""
    gate = Gate(first="")

    async def script(request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        yield DeltaEvent(text="word " * 10, provider=Provider.LOCAL, model="scripted")
        async for event in gate(request):
            yield event

    async with with_plans() as chat:
        chat.settings.prices["local:scripted"] = ModelPrice(prompt=Decimal(1_000_000), completion=Decimal(1_000_000))
        ann = await chat.person()
        chat.agent.script = script
        run_id = (await chat.send_async(ann, await chat.session(ann)))["run"]["id"]
        await gate.arrival()
        await asyncio.sleep(0.1)
        await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=ann.headers)
        run = await chat.run_ended(ann, run_id, within=PATIENCE_SECONDS)

        [stored] = await chat.rows("SELECT provider, model, cost FROM chat.runs")
        assert (run["status"], stored["provider"], stored["model"]) == ("cancelled", "local", "scripted")
        assert stored["cost"] == run["usage"]["total_tokens"]


async def test_a_run_that_waited_does_not_begin_once_they_are_used_up(with_plans: WithPlans) -> None:
    async with with_plans(tokens_per_day=12) as chat:
        ann = await chat.person()
        session = await chat.session(ann)
        chat.agent.script = gate = Gate()
        first = await chat.send_async(ann, session)
        await gate.arrival()
        second = await chat.send_async(ann, session)
        gate.opened.set()
        assert (await chat.run_ended(ann, first["run"]["id"], within=PATIENCE_SECONDS))["status"] == "completed"
        run = await chat.run_ended(ann, second["run"]["id"], within=PATIENCE_SECONDS)

        assert (run["status"], run["error"]["code"]) == ("failed", "quota-exceeded")


async def test_who_had_it_answered_pays_for_it(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        session = await chat.session(ann, reply_policy="always")
        said = await chat.said(ann, session)
        await chat.join(session, bob)
        path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}/regenerate"
        again = await chat.client.post(path, headers=bob.headers)
        assert again.status_code == 201, again.text

        assert await used(chat, ann, "tokens") == (12, None)
        assert await used(chat, bob, "tokens") == (12, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_door_for_openais_clients_counts_and_refuses(with_plans: WithPlans, *, stream: bool) -> None:
    body = {"model": "local", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    async with with_plans(tokens_per_day=12) as chat:
        ann = await chat.person()

        async def complete() -> httpx.Response:
            return await chat.client.post("/v1/chat/completions", json=body, headers=ann.headers)

        assert (await complete()).status_code == 200
        assert await used(chat, ann, "tokens") == (12, 0)
        refused = await complete()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota-exceeded")


async def test_vectors_count_with_what_the_agent_said_and_are_refused_when_tokens_are_used_up(
    with_plans: WithPlans,
) -> None:
    async with with_plans(tokens_per_day=2) as chat:
        ann = await chat.person()
        body = {"model": "local", "input": ["When is high tide?", "At ten."]}
        answers = [await chat.client.post("/v1/embeddings", json=body, headers=ann.headers) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].json()["error"]["code"] == "quota-exceeded"
        assert await used(chat, ann, "tokens") == (2, 0)
        assert len(chat.agent.embeddings) == 2
