"""What becomes of a run: queued behind another, cancelled, failed, tried again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from chat_api.kit.models import new_id
from chat_api.runs.repository import Holder
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Person, chat_api, problem
from tests.fakes.agent import Gate, breaking_off, echo, failing, saying
from tests.stores import Database

RATE_LIMITED = ProblemDocument(title="Too fast", status=429, detail="Slow down.", code="model-rate-limited")


async def cancel(chat: ChatApi, person: Person, run_id: str) -> httpx.Response:
    return await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=person.headers)


async def regenerate(
    chat: ChatApi, person: Person, session: dict[str, str], message_id: str, **headers: str
) -> httpx.Response:
    path = f"{API}/sessions/{session['id']}/messages/{message_id}/regenerate"
    return await chat.client.post(path, headers=person.headers | headers)


async def test_a_message_sent_while_a_run_is_active_waits_its_turn(chat: ChatApi, ann: Person) -> None:
    gate = Gate()
    chat.agent.next_scripts = [gate]
    session = await chat.session(ann)
    first = await chat.send_async(ann, session, "first")
    await gate.arrival()
    second = await chat.send_async(ann, session, "second")
    assert second["run"]["status"] == "queued"
    await asyncio.sleep(0.05)
    assert len(chat.agent.requests) == 1
    gate.opened.set()
    assert (await chat.run_ended(ann, second["run"]["id"]))["status"] == "completed"
    assert (await chat.run(ann, first["run"]["id"]))["status"] == "completed"
    assert [message["content"] for message in await chat.history(ann, session)] == [
        "first",
        "So far.",
        "second",
        "You said: second",
    ]


async def test_cancelling_a_running_run_keeps_what_was_said(chat: ChatApi, ann: Person) -> None:
    gate = Gate(first="Half an ans")
    chat.agent.next_scripts = [gate]
    session = await chat.session(ann)
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    await chat.told(accepted["run"]["id"], "message.delta")
    assert (await cancel(chat, ann, accepted["run"]["id"])).status_code == 200
    run = await chat.run_ended(ann, accepted["run"]["id"])
    assert run["status"] == "cancelled"
    assert chat.agent.abandoned == 1
    reply = (await chat.history(ann, session))[1]
    assert (reply["status"], reply["content"]) == ("cancelled", "Half an ans")
    events = await chat.events(ann, run["id"])
    assert events[-1].type == "run.cancelled"


async def test_cancelling_a_waiting_run_ends_it_at_once(chat: ChatApi, ann: Person) -> None:
    gate = Gate()
    chat.agent.next_scripts = [gate]
    session = await chat.session(ann)
    await chat.send_async(ann, session, "first")
    await gate.arrival()
    waiting = await chat.send_async(ann, session, "second")
    answer = await cancel(chat, ann, waiting["run"]["id"])
    assert answer.json()["status"] == "cancelled"
    events = await chat.events(ann, waiting["run"]["id"])
    assert [(event.id, event.type) for event in events] == [(1, "message.created"), (2, "run.cancelled")]
    gate.opened.set()
    await asyncio.sleep(0.05)
    assert len(chat.agent.requests) == 1


async def test_cancelling_twice_is_the_same_as_once_and_too_late_is_409(chat: ChatApi, ann: Person) -> None:
    gate = Gate()
    chat.agent.next_scripts = [gate]
    session = await chat.session(ann)
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    for _ in range(2):
        assert (await cancel(chat, ann, accepted["run"]["id"])).status_code == 200
    await chat.run_ended(ann, accepted["run"]["id"])
    assert (await cancel(chat, ann, accepted["run"]["id"])).json()["status"] == "cancelled"
    done = await chat.said(ann, session)
    assert problem(await cancel(chat, ann, done["run"]["id"])) == (409, "run-finished")


async def test_strangers_see_no_run(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    run_id = (await chat.said(ann, session))["run"]["id"]
    assert problem(await cancel(chat, bob, run_id)) == (404, "run-not-found")
    for path in (f"{API}/runs/{run_id}", f"{API}/runs/{run_id}/events"):
        assert problem(await chat.client.get(path, headers=bob.headers)) == (404, "run-not-found")


async def test_a_message_that_is_deleted_before_its_turn_is_not_answered(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    gate = Gate()
    chat.agent.next_scripts = [gate]
    first = await chat.send_async(ann, session, "First")
    await gate.arrival()
    waiting = await chat.send_async(ann, session, "Second")
    for sent in (first, waiting):
        path = f"{API}/sessions/{session['id']}/messages/{sent['message']['id']}"
        assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204
    gate.opened.set()

    run = await chat.run_ended(ann, waiting["run"]["id"])

    assert (run["status"], run["error"]["code"]) == ("failed", "question-deleted")
    assert len(chat.agent.requests) == 1


async def test_a_failing_model_never_loses_the_message(chat: ChatApi, ann: Person) -> None:
    chat.agent.next_scripts = [failing(RATE_LIMITED, "I was about")]
    session = await chat.session(ann)
    body = await chat.said(ann, session, "Hello?")
    assert body["run"]["status"] == "failed"
    assert body["run"]["error"]["code"] == "model-rate-limited"
    assert (body["reply"]["status"], body["reply"]["content"]) == ("failed", "I was about")
    assert body["reply"]["error"]["code"] == "model-rate-limited"
    again = (await regenerate(chat, ann, session, body["message"]["id"])).json()
    assert again["message"] == body["message"]
    assert again["run"]["status"] == "completed"
    assert again["reply"]["content"] == "You said: Hello?"
    assert [message["seq"] for message in await chat.history(ann, session)] == [1, 2, 3]


async def test_a_failed_run_names_the_request_that_finds_it_in_the_logs(chat: ChatApi, ann: Person) -> None:
    chat.agent.next_scripts = [failing(RATE_LIMITED)]
    session = await chat.session(ann)
    body = (await chat.send(ann, session, headers={"X-Request-ID": "find-me"})).json()
    assert body["run"]["error"]["request_id"] == "find-me"


async def test_an_agent_that_breaks_off_fails_the_run_and_keeps_the_text(chat: ChatApi, ann: Person) -> None:
    chat.agent.next_scripts = [breaking_off("Once upon")]
    session = await chat.session(ann)
    body = await chat.said(ann, session)
    assert body["run"]["error"]["code"] == "agent-broke-off"
    assert body["reply"]["content"] == "Once upon"


async def test_an_agent_that_comes_back_is_asked_again(chat: ChatApi, ann: Person) -> None:
    chat.agent.refusals = [httpx.ConnectError("away"), httpx.Response(503), httpx.ConnectError("away")]
    session = await chat.session(ann)
    body = await chat.said(ann, session)
    assert body["run"]["status"] == "completed"
    assert len(chat.agent.requests) == 4


async def test_an_agent_that_stays_away_fails_the_run(chat: ChatApi, ann: Person) -> None:
    chat.agent.refusals = [httpx.ConnectError("away") for _ in range(50)]
    session = await chat.session(ann)
    started = asyncio.get_running_loop().time()
    body = await chat.said(ann, session)
    assert body["run"]["error"]["code"] == "agent-unavailable"
    assert asyncio.get_running_loop().time() - started < 8
    assert (await chat.history(ann, session))[0]["content"] == "Hello"


async def test_a_refusal_of_the_agent_is_shown_as_it_is(chat: ChatApi, ann: Person) -> None:
    refusal = {"title": "No such model", "status": 422, "detail": "x", "code": "model-unknown"}
    chat.agent.refusals = [httpx.Response(422, json=refusal)]
    session = await chat.session(ann, provider="openai", model="none-such")
    body = await chat.said(ann, session)
    assert body["run"]["error"]["code"] == "model-unknown"


async def test_a_run_that_takes_too_long_ends(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, run_timeout_seconds=0.2) as chat:
        ann = await chat.person()
        chat.agent.script = Gate(first="Well")
        body = await chat.said(ann, await chat.session(ann))
        assert body["run"]["error"]["code"] == "run-timed-out"
        assert body["reply"]["content"] == "Well"
        assert chat.agent.abandoned == 1


async def test_regenerating_adds_a_sibling_and_hides_the_old_answer_from_the_model(chat: ChatApi, ann: Person) -> None:
    chat.agent.next_scripts = [saying("bad"), saying("good")]
    session = await chat.session(ann)
    body = await chat.said(ann, session, "question")
    again = await regenerate(chat, ann, session, body["reply"]["id"])
    assert again.status_code == 201
    assert again.json()["reply"]["parent_id"] == body["message"]["id"]
    assert [message.content for message in chat.agent.requests[1].messages] == ["question"]
    assert [message["content"] for message in await chat.history(ann, session)] == ["question", "bad", "good"]
    await chat.said(ann, session, "next")
    assert [message.content for message in chat.agent.requests[2].messages] == ["question", "good", "next"]


async def test_regenerating_takes_an_idempotency_key(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    first = await chat.said(ann, session, "one")
    second = await chat.said(ann, session, "two")
    key = {"Idempotency-Key": "again"}
    answers = await asyncio.gather(*(regenerate(chat, ann, session, first["message"]["id"], **key) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    other = await regenerate(chat, ann, session, second["message"]["id"], **key)
    assert problem(other) == (422, "idempotency-key-reused")
    assert len(await chat.history(ann, session)) == 5


async def test_a_key_of_another_request_does_not_serve_regenerate(chat: ChatApi, ann: Person) -> None:
    key = {"Idempotency-Key": "taken"}
    created = await chat.client.post(f"{API}/sessions", json={}, headers=ann.headers | key)
    body = await chat.said(ann, created.json())
    answer = await regenerate(chat, ann, created.json(), body["message"]["id"], **key)
    assert problem(answer) == (422, "idempotency-key-reused")


async def test_only_messages_of_the_session_can_be_answered_again(chat: ChatApi, ann: Person, bob: Person) -> None:
    session, other = await chat.session(ann), await chat.session(ann)
    body = await chat.said(ann, session)
    assert problem(await regenerate(chat, ann, other, body["message"]["id"])) == (404, "message-not-found")
    assert problem(await regenerate(chat, ann, session, str(uuid4()))) == (404, "message-not-found")
    assert problem(await regenerate(chat, bob, session, body["message"]["id"])) == (404, "session-not-found")


async def test_session_status_shows_the_active_run_and_the_tokens(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, provider="local")
    await chat.said(ann, session)
    gate = Gate()
    chat.agent.next_scripts = [gate]
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    await chat.send_async(ann, session)
    path = f"{API}/sessions/{session['id']}/status"
    status = (await chat.client.get(path, headers=ann.headers)).json()
    assert status["active_run"]["id"] == accepted["run"]["id"]
    assert status["queued_runs"] == 1
    assert status["tokens"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert problem(await chat.client.get(path, headers=bob.headers)) == (404, "session-not-found")
    gate.opened.set()


@pytest.fixture
async def two(clean_database: Database, redis_url: str) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    """Two processes' worth of application over the same stores."""
    async with (
        chat_api(clean_database.api_url, redis_url) as one,
        chat_api(clean_database.api_url, redis_url) as other,
    ):
        yield one, other


async def test_a_cancel_crosses_processes(two: tuple[ChatApi, ChatApi]) -> None:
    one, other = two
    ann = await one.person()
    gate = Gate()
    one.agent.script = gate
    session = await one.session(ann)
    accepted = await one.send_async(ann, session)
    await gate.arrival()
    await cancel(other, ann, accepted["run"]["id"])
    run = await other.run_ended(ann, accepted["run"]["id"])
    assert run["status"] == "cancelled"


async def test_two_processes_answer_a_session_one_run_at_a_time(two: tuple[ChatApi, ChatApi]) -> None:
    one, other = two
    ann = await one.person()
    session = await one.session(ann)
    one.agent.script = other.agent.script = echo
    sends = [(one, other)[number % 2].said(ann, session, f"{number}") for number in range(20)]
    bodies = await asyncio.gather(*sends)
    assert {body["run"]["status"] for body in bodies} == {"completed"}
    for body in bodies:
        assert body["reply"]["content"] == f"You said: {body['message']['content']}"
    rows = await one.rows(
        "SELECT started_at, finished_at FROM chat.runs WHERE session_id = $1 ORDER BY started_at", UUID(session["id"])
    )
    for earlier, later in itertools.pairwise(rows):
        assert earlier["finished_at"] <= later["started_at"]


async def test_a_run_that_is_leased_while_the_drain_begins_is_given_back(chat: ChatApi, ann: Person) -> None:
    executor = chat.engine.executor
    session = await chat.session(ann, reply_policy="always")
    gate = Gate(first="")
    chat.agent.script = gate
    first = (await chat.send_async(ann, session))["run"]["id"]
    second = (await chat.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    # The first one's end looks for the next while nothing more is taken.
    draining = asyncio.create_task(executor.drain(2))
    await asyncio.sleep(0)
    gate.opened.set()
    await draining

    assert executor.active_count == 0
    assert (await chat.run(ann, first))["status"] == "completed"
    assert (await chat.run(ann, second))["status"] == "queued"


async def test_a_lease_that_comes_after_the_drain_is_given_back(chat: ChatApi, ann: Person) -> None:
    executor, repository = chat.engine.executor, chat.engine.repository
    session = await chat.session(ann, reply_policy="always")
    await executor.drain(0)
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    claim = await repository.claim(UUID(session["id"]), Holder(executor.owner, 4), new_id())
    assert claim is not None

    await executor.begin(claim)

    assert executor.active_count == 0
    assert (await chat.run(ann, run_id))["status"] == "queued"
