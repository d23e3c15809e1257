"""An account that is to be erased is closed at once: for its owner, for everybody else, in every process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from chat_api.auth.authenticator import Authenticator
from chat_api.kit.outbox import Jobs
from chat_api.privacy.erasure import ERASE_TOPIC
from chat_api.runs.service import RunService
from chat_api.worker import account_runner
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.document_jobs import ScriptedIndex
from tests.factories.everything_of import PASSWORD, sign_in
from tests.fakes.agent import Gate
from tests.stores import Database

ME = f"{API}/users/me"


async def erase(chat: ChatApi, person: Person, password: str = PASSWORD) -> httpx.Response:
    return await chat.client.request("DELETE", ME, json={"password": password}, headers=person.headers)


async def work(chat: ChatApi, index: ScriptedIndex | None = None) -> None:
    """One attempt at what is to be erased."""
    state, engine = chat.app.state, chat.engine
    runs = RunService(engine.repository, engine.executor, engine.streams, engine.sends, engine.quotas)
    runner = account_runner(
        chat.settings, state.database, state.storage, index or ScriptedIndex(), runs, state.hints, chat.clock
    )
    await chat.rows("UPDATE chat.outbox SET available_at = now() WHERE topic = $1", ERASE_TOPIC)
    for entry in await Jobs(state.database).due(runner.topics, 10):
        await runner.run(entry.id)


async def accounts(chat: ChatApi) -> set[UUID]:
    return {row["id"] for row in await chat.rows("SELECT id FROM chat.users")}


@pytest.fixture
async def tokens(chat: ChatApi, ann: Person) -> Json:
    return await sign_in(chat, ann)


async def test_it_is_closed_at_once(chat: ChatApi, ann: Person, bob: Person, tokens: Json) -> None:
    made = await chat.client.post(f"{API}/api-keys", json={"name": "k", "scopes": ["chat:read"]}, headers=ann.headers)
    key = {"Authorization": f"Bearer {made.json()['key']}"}

    answer = await erase(chat, ann)

    assert answer.status_code == 202
    assert answer.json()["user_id"] == str(ann.id)
    for headers in (ann.headers, {"Authorization": f"Bearer {tokens['access_token']}"}, key):
        assert (await chat.client.get(f"{API}/sessions", headers=headers)).status_code == 401
        assert (await chat.client.post(f"{API}/sessions", json={}, headers=headers)).status_code == 401
    renewed = await chat.client.post(f"{API}/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert renewed.status_code == 401
    again = await chat.client.post(f"{API}/auth/token", data={"username": "ann", "password": PASSWORD})
    assert again.status_code == 401
    assert (await erase(chat, ann)).status_code == 401
    found = await chat.client.get(f"{API}/users", params={"q": "ann"}, headers=bob.headers)
    assert found.json()["items"] == []
    [row] = await chat.rows("SELECT available_at > now() AS waits FROM chat.outbox WHERE topic = $1", ERASE_TOPIC)
    assert row["waits"], "other processes must have heard of it before anything is erased"


async def test_other_processes_hear_of_it(chat: ChatApi, ann: Person, tokens: Json) -> None:
    elsewhere = Authenticator(chat.settings, chat.app.state.database, chat.clock)
    token = ann.headers["Authorization"].removeprefix("Bearer ")
    assert elsewhere.authenticate_token(token).user_id == ann.id
    await erase(chat, ann)

    await elsewhere.closed.look()
    assert ann.id in elsewhere.closed
    await work(chat)
    assert await accounts(chat) == set()
    await elsewhere.closed.look()

    assert ann.id in elsewhere.closed, "its tokens outlive the account"
    chat.clock.advance(chat.settings.access_token_lifetime + timedelta(minutes=2))
    await elsewhere.closed.look()
    assert ann.id not in elsewhere.closed


async def test_a_process_that_did_not_hear_of_it_writes_nothing_for_nobody(
    chat: ChatApi, ann: Person, tokens: Json
) -> None:
    await erase(chat, ann)
    await work(chat)
    chat.app.state.authenticator.closed._until.clear()

    assert problem(await chat.client.post(f"{API}/sessions", json={}, headers=ann.headers)) == (
        401,
        "not-authenticated",
    )
    assert problem(await chat.client.get(f"{ME}/export", headers=ann.headers)) == (401, "not-authenticated")


async def test_an_account_that_was_opened_again_may_be_used_again(chat: ChatApi, ann: Person) -> None:
    closed = chat.app.state.authenticator.closed
    await chat.rows("UPDATE chat.users SET is_active = false, updated_at = $2 WHERE id = $1", ann.id, chat.clock.now())
    await closed.look()
    assert problem(await chat.client.get(ME, headers=ann.headers)) == (401, "not-authenticated")

    await chat.rows("UPDATE chat.users SET is_active = true WHERE id = $1", ann.id)
    await closed.look()

    assert (await chat.client.get(ME, headers=ann.headers)).status_code == 200


async def test_it_needs_the_password(chat: ChatApi, ann: Person, tokens: Json) -> None:
    assert problem(await erase(chat, ann, "not this one")) == (403, "wrong-password")
    assert problem(await erase(chat, ann, "")) == (422, "validation-failed")
    assert problem(await chat.client.request("DELETE", ME, headers=ann.headers))[0] == 422

    assert (await chat.client.get(ME, headers=ann.headers)).status_code == 200
    assert await chat.rows("SELECT FROM chat.outbox") == []


async def test_two_at_once_are_one(chat: ChatApi, ann: Person, tokens: Json) -> None:
    answers = await asyncio.gather(*(erase(chat, ann) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [202, 401, 401, 401]
    assert len(await chat.rows("SELECT FROM chat.outbox WHERE topic = $1", ERASE_TOPIC)) == 1


async def test_while_the_agent_is_away_the_account_waits(chat: ChatApi, ann: Person, tokens: Json) -> None:
    from chat_api.clients.connection import AgentUnavailable

    await chat.bot(ann)
    session = await chat.session(ann)
    await erase(chat, ann)
    index = ScriptedIndex()
    index.failures.append(AgentUnavailable())

    await work(chat, index)

    assert await accounts(chat) == {ann.id}
    assert await chat.rows("SELECT FROM chat.sessions WHERE id = $1", UUID(session["id"])) == []
    await work(chat, index)
    assert await accounts(chat) == set()
    assert await chat.rows("SELECT FROM chat.outbox WHERE topic = $1", ERASE_TOPIC) == []


async def test_what_is_being_answered_is_stopped_first(chat: ChatApi, ann: Person, bob: Person, tokens: Json) -> None:
    room = await chat.session(bob, reply_policy="always")
    await chat.join(room, ann)
    gate = Gate("So, ann")
    chat.agent.script = gate
    sent = await chat.send_async(ann, room, "A secret of mine")
    await gate.reached.wait()
    await erase(chat, ann)

    async with asyncio.timeout(30):
        while ann.id in await accounts(chat):
            await work(chat)

    await chat.has_left(sent["run"]["id"])
    history = await chat.history(bob, room)
    assert {message["content"] for message in history if message["role"] != "system"} == {""}
    assert all(message["deleted_at"] for message in history if message["role"] != "system")
    assert (await chat.run(bob, sent["run"]["id"]))["status"] == "cancelled"


async def test_while_another_process_answers_the_account_waits(
    chat: ChatApi, ann: Person, bob: Person, tokens: Json
) -> None:
    room = await chat.session(bob, reply_policy="always")
    await chat.join(room, ann)
    said = await chat.said(ann, room, "A secret of mine")
    held = "UPDATE chat.runs SET status = 'running', lease_owner = 'somebody', lease_expires_at = now() + '1 hour'"
    await chat.rows(f"{held} WHERE id = $1", UUID(said["run"]["id"]))
    await erase(chat, ann)

    await work(chat)

    assert await accounts(chat) == {ann.id, bob.id}
    [run] = await chat.rows("SELECT cancel_requested_at IS NOT NULL AS is_told FROM chat.runs")
    assert run["is_told"]
    await chat.rows("UPDATE chat.runs SET status = 'cancelled'")
    await work(chat)
    assert await accounts(chat) == {bob.id}


async def test_sockets_end(chat: ChatApi, ann: Person, tokens: Json) -> None:
    authenticator = chat.app.state.authenticator
    actor = authenticator.authenticate_token(ann.headers["Authorization"].removeprefix("Bearer "))
    assert await authenticator.still_valid({actor}) == {actor}

    await erase(chat, ann)

    assert await authenticator.still_valid({actor}) == set()


async def test_people_erased_together_leave_no_room_behind(
    chat: ChatApi, ann: Person, bob: Person, clean_database: Database
) -> None:
    await sign_in(chat, ann)
    await sign_in(chat, bob)
    room = await chat.session(ann, reply_policy="never")
    await chat.join(room, bob)
    await chat.said(bob, room, "Both of us")
    await erase(chat, ann)
    await erase(chat, bob)

    await work(chat)

    assert await accounts(chat) == set()
    assert await chat.rows("SELECT FROM chat.sessions") == []
