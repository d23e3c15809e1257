"""`Idempotency-Key` on creating a session: done once, answered alike, forgotten after a day."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx

from chat_api.kit.idempotency import forget_answers_before
from chat_api.worker import forget_old_answers
from tests.factories.chat import API, ChatApi, Json, Person, problem


async def create(chat: ChatApi, person: Person, key: str, body: Json | None = None) -> httpx.Response:
    headers = person.headers | {"Idempotency-Key": key}
    return await chat.client.post(f"{API}/sessions", json=body or {"title": "Once"}, headers=headers)


def signed_in_again(chat: ChatApi, person: Person) -> Person:
    """With a token of now: the clock has moved past the end of the old one."""
    token = chat.app.state.authenticator.mint_access_token(person.id)
    return replace(person, headers={"Authorization": f"Bearer {token}"})


async def session_count(chat: ChatApi) -> int:
    return len(await chat.rows("SELECT 1 FROM chat.sessions"))


async def test_the_same_request_gets_the_same_bytes(chat: ChatApi, ann: Person) -> None:
    first = await create(chat, ann, "k")
    second = await create(chat, ann, "k")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert await session_count(chat) == 1


async def test_the_stored_answer_stays_as_it_was_given(chat: ChatApi, ann: Person) -> None:
    first = await create(chat, ann, "k")
    path = f"{API}/sessions/{first.json()['id']}"
    await chat.client.patch(path, json={"title": "Renamed"}, headers=ann.headers)
    assert (await create(chat, ann, "k")).content == first.content


async def test_another_body_under_the_key_is_refused(chat: ChatApi, ann: Person) -> None:
    await create(chat, ann, "k")
    assert problem(await create(chat, ann, "k", {"title": "Twice"})) == (422, "idempotency-key-reused")
    assert problem(await create(chat, ann, "k", {"title": "Once", "tags": []})) == (422, "idempotency-key-reused")
    assert await session_count(chat) == 1


async def test_the_order_of_fields_makes_no_other_body(chat: ChatApi, ann: Person) -> None:
    await create(chat, ann, "k", {"title": "Once", "metadata": {"a": 1, "b": 2}})
    replayed = await create(chat, ann, "k", {"metadata": {"b": 2, "a": 1}, "title": "Once"})
    assert replayed.headers["idempotent-replayed"] == "true"


async def test_twenty_at_once_make_one_session(chat: ChatApi, ann: Person) -> None:
    answers = await asyncio.gather(*(create(chat, ann, "k") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
    assert await session_count(chat) == 1


async def test_of_two_bodies_at_once_one_wins(chat: ChatApi, ann: Person) -> None:
    answers = await asyncio.gather(*(create(chat, ann, "k", {"title": f"Title {n % 2}"}) for n in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [422] * 5
    assert await session_count(chat) == 1


async def test_two_people_may_use_the_same_key(chat: ChatApi, ann: Person, bob: Person) -> None:
    anns, bobs = await asyncio.gather(create(chat, ann, "k"), create(chat, bob, "k"))
    assert (anns.status_code, bobs.status_code) == (201, 201)
    assert anns.json()["owner_id"] == str(ann.id)
    assert bobs.json()["owner_id"] == str(bob.id)


async def test_a_refused_request_does_not_use_up_its_key(chat: ChatApi, ann: Person) -> None:
    assert (await create(chat, ann, "k", {"title": ""})).status_code == 422
    assert (await create(chat, ann, "k")).status_code == 201


async def test_a_key_that_is_no_token_is_refused(chat: ChatApi, ann: Person) -> None:
    for key in ("", "two words", "x" * 201, "tab\tinside", "umlaut-ä"):
        headers = [(b"Idempotency-Key", key.encode()), (b"Authorization", ann.headers["Authorization"].encode())]
        answer = await chat.client.post(f"{API}/sessions", json={}, headers=headers)
        assert problem(answer) == (422, "validation-failed"), key
    assert await session_count(chat) == 0


async def test_answers_are_forgotten_after_a_day(chat: ChatApi, ann: Person) -> None:
    await create(chat, ann, "k")
    context = {"database": chat.app.state.database, "clock": chat.clock}
    chat.clock.advance(timedelta(hours=23, minutes=59))
    assert await forget_old_answers(context) == 0
    assert (await create(chat, signed_in_again(chat, ann), "k")).headers["idempotent-replayed"] == "true"
    chat.clock.advance(timedelta(minutes=2))
    assert await forget_old_answers(context) == 1
    again = await create(chat, signed_in_again(chat, ann), "k", {"title": "Other"})
    assert again.status_code == 201
    assert "idempotent-replayed" not in again.headers
    assert await session_count(chat) == 2


async def test_only_older_answers_are_forgotten(chat: ChatApi, ann: Person) -> None:
    await create(chat, ann, "old")
    await chat.rows("UPDATE chat.idempotency_keys SET created_at = created_at - interval '2 days'")
    await create(chat, ann, "new")
    async with chat.app.state.database.unit() as db:
        assert await forget_answers_before(db, chat.clock.now() - timedelta(days=1)) == 1
    kept = await chat.rows("SELECT key FROM chat.idempotency_keys")
    assert [row["key"] for row in kept] == ["new"]
