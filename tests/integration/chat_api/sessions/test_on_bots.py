"""Sessions on bots: started, moved and taken off, only on those that the owner may use."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem

NOT_FOUND = (404, "bot-not-found")


async def start(chat: ChatApi, person: Person, bot: Json) -> httpx.Response:
    return await chat.client.post(f"{API}/sessions", json={"bot_id": bot["id"]}, headers=person.headers)


async def patch(chat: ChatApi, person: Person, session: Json, **fields: Any) -> httpx.Response:
    return await chat.client.patch(f"{API}/sessions/{session['id']}", json=fields, headers=person.headers)


async def status(chat: ChatApi, person: Person, session: Json) -> tuple[str | None, str | None]:
    answer = await chat.client.get(f"{API}/sessions/{session['id']}/status", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["provider"], answer.json()["model"]


async def test_a_session_starts_on_a_bot_of_ones_own(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    session = await chat.session(ann, bot_id=bot["id"])
    assert session["bot_id"] == bot["id"]
    read = await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)
    assert read.json() == session


@pytest.mark.parametrize(
    ("visibility", "shared", "may"),
    [
        ("private", False, False),
        ("private", True, False),
        ("shared", False, False),
        ("shared", True, True),
        ("public", False, True),
    ],
)
async def test_a_session_starts_on_a_bot_of_somebody_elses_if_it_may_be_used(
    chat: ChatApi, ann: Person, bob: Person, visibility: str, shared: bool, may: bool
) -> None:
    bot = await chat.bot(bob, visibility=visibility)
    if shared:
        await chat.share(bob, bot, ann)
    answer = await start(chat, ann, bot)
    moved = await patch(chat, ann, await chat.session(ann), bot_id=bot["id"])
    if may:
        assert (answer.status_code, moved.status_code) == (201, 200)
        # And the run agrees: what may be chosen may answer.
        assert (await chat.said(ann, answer.json()))["run"]["status"] == "completed"
    else:
        assert (problem(answer), problem(moved)) == (NOT_FOUND, NOT_FOUND)
        assert await chat.rows("SELECT 1 FROM chat.sessions WHERE bot_id IS NOT NULL") == []


async def test_no_session_starts_on_nothing_or_on_what_is_deleted(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, visibility="public")
    await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
    session = await chat.session(ann)
    for gone in (bot, {"id": str(uuid4())}):
        assert problem(await start(chat, ann, gone)) == NOT_FOUND
        assert problem(await patch(chat, ann, session, bot_id=gone["id"])) == NOT_FOUND
    assert problem(await patch(chat, ann, session, bot_id="guide")) == (422, "validation-failed")


async def test_null_takes_the_bot_off(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, bot_id=(await chat.bot(ann))["id"])
    changed = (await patch(chat, ann, session, bot_id=None)).json()
    assert changed["bot_id"] is None
    rows = await chat.rows("SELECT data FROM chat.session_events WHERE session_id = $1", UUID(session["id"]))
    assert [row["data"] for row in rows] == [{"fields": ["bot_id"], "changes": {"bot_id": None}}]


async def test_another_change_leaves_a_bot_that_is_gone(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    session = await chat.session(ann, bot_id=bot["id"])
    await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
    changed = await patch(chat, ann, session, title="Still here")
    assert (changed.status_code, changed.json()["bot_id"]) == (200, bot["id"])


async def test_the_filter_by_bot(chat: ChatApi, ann: Person, bob: Person) -> None:
    guide, other = await chat.bot(ann, visibility="public"), await chat.bot(ann)
    on_guide = await chat.session(ann, bot_id=guide["id"])
    await chat.session(ann, bot_id=other["id"])
    await chat.session(ann)
    await chat.session(bob, bot_id=guide["id"])
    answer = await chat.client.get(f"{API}/sessions", params={"bot_id": guide["id"]}, headers=ann.headers)
    assert answer.json()["items"] == [on_guide]
    nothing = await chat.client.get(f"{API}/sessions", params={"bot_id": str(uuid4())}, headers=ann.headers)
    assert nothing.json()["items"] == []
    refused = await chat.client.get(f"{API}/sessions", params={"bot_id": "guide"}, headers=ann.headers)
    assert problem(refused) == (422, "validation-failed")


@pytest.mark.parametrize(
    ("session", "bot", "effective"),
    [
        ({}, {}, (None, None)),
        ({}, {"provider": "openai", "model": "gpt"}, ("openai", "gpt")),
        ({"model": "own"}, {"provider": "openai", "model": "gpt"}, ("openai", "own")),
        ({"provider": "openai"}, {"provider": "openai", "model": "gpt"}, ("openai", "gpt")),
        # A model is one of its provider's: with another provider it would be no model at all.
        ({"provider": "local"}, {"provider": "openai", "model": "gpt"}, ("local", None)),
        ({"provider": "local"}, {"model": "gpt"}, ("local", None)),
        ({"provider": "local", "model": "own"}, {"provider": "openai", "model": "gpt"}, ("local", "own")),
        ({}, {"model": "gpt"}, (None, "gpt")),
        ({"provider": "local"}, {}, ("local", None)),
    ],
)
async def test_the_status_and_the_run_have_the_same_model(
    chat: ChatApi, ann: Person, session: Json, bot: Json, effective: tuple[str | None, str | None]
) -> None:
    made = await chat.session(ann, bot_id=(await chat.bot(ann, **bot))["id"], **session)
    assert await status(chat, ann, made) == effective
    first = await chat.said(ann, made)
    # The second is claimed by another statement than the first.
    path = f"{API}/sessions/{made['id']}/messages/{first['message']['id']}/regenerate"
    assert (await chat.client.post(path, headers=ann.headers)).status_code == 201
    asked = [(request.model.provider, request.model.name) for request in chat.agent.requests]
    assert asked == [effective, effective]


async def test_the_status_shows_no_model_of_a_bot_that_may_not_be_used(chat: ChatApi, ann: Person, bob: Person) -> None:
    bot = await chat.bot(bob, visibility="public", provider="openai", model="gpt")
    session = await chat.session(ann, bot_id=bot["id"])
    assert await status(chat, ann, session) == ("openai", "gpt")
    await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": "private"}, headers=bob.headers)
    assert await status(chat, ann, session) == (None, None)
