"""Which calls of tools wait for a person: read by all who take part, chosen by the owner."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem


async def put(chat: ChatApi, person: Person, session: Json, **body: Any) -> httpx.Response:
    return await chat.client.put(f"{API}/sessions/{session['id']}/approval-mode", json=body, headers=person.headers)


async def mode(chat: ChatApi, person: Person, session: Json) -> Json:
    answer = await chat.client.get(f"{API}/sessions/{session['id']}/approval-mode", headers=person.headers)
    assert answer.status_code == 200, answer.text
    read: Json = answer.json()
    return read


async def updates(chat: ChatApi, session: Json) -> list[Json]:
    rows = await chat.rows(
        "SELECT data FROM chat.session_events WHERE session_id = $1 AND type = 'session.updated' ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [row["data"] for row in rows]


@pytest.mark.parametrize("wanted", ["never", "always"])
async def test_the_owner_chooses_and_everybody_is_told(chat: ChatApi, ann: Person, wanted: str) -> None:
    session = await chat.session(ann)
    assert await mode(chat, ann, session) == {"approval_mode": "risky"}

    answer = await put(chat, ann, session, approval_mode=wanted)

    assert (answer.status_code, answer.json()) == (200, {"approval_mode": wanted})
    assert await mode(chat, ann, session) == {"approval_mode": wanted}
    whole = await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)
    assert whole.json()["approval_mode"] == wanted
    assert await updates(chat, session) == [{"fields": ["approval_mode"], "changes": {"approval_mode": wanted}}]


async def test_choosing_what_is_chosen_changes_nothing(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)

    assert (await put(chat, ann, session, approval_mode="risky")).json() == {"approval_mode": "risky"}

    assert await updates(chat, session) == []


async def test_a_member_reads_it_and_a_stranger_does_not(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    path = f"{API}/sessions/{session['id']}/approval-mode"
    assert problem(await chat.client.get(path, headers=bob.headers)) == (404, "session-not-found")
    assert problem(await put(chat, bob, session, approval_mode="never")) == (404, "session-not-found")

    await chat.join(session, bob)

    assert await mode(chat, bob, session) == {"approval_mode": "risky"}
    assert problem(await put(chat, bob, session, approval_mode="never")) == (403, "not-session-owner")
    assert await mode(chat, ann, session) == {"approval_mode": "risky"}


@pytest.mark.parametrize("body", [{}, {"approval_mode": "sometimes"}, {"approval_mode": None}, {"mode": "never"}])
async def test_other_words_are_refused(chat: ChatApi, ann: Person, body: Json) -> None:
    session = await chat.session(ann)

    assert problem(await put(chat, ann, session, **body)) == (422, "validation-failed")
