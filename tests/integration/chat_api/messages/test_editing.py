"""Editing, deleting and clearing what was said: who may, what stays, and what everybody is told."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import Gate


@pytest.fixture
async def session(chat: ChatApi, ann: Person) -> Json:
    return await chat.session(ann, reply_policy="never")


@pytest.fixture
async def message(chat: ChatApi, ann: Person, session: Json) -> Json:
    sent: Json = (await chat.said(ann, session, "First", metadata={"kept": True}))["message"]
    return sent


def path(message: Json, rest: str = "") -> str:
    return f"{API}/sessions/{message['session_id']}/messages/{message['id']}{rest}"


async def edit(chat: ChatApi, person: Person, message: Json, **fields: Any) -> httpx.Response:
    return await chat.client.patch(path(message), json=fields, headers=person.headers)


async def delete(chat: ChatApi, person: Person, message: Json) -> httpx.Response:
    return await chat.client.delete(path(message), headers=person.headers)


async def read(chat: ChatApi, person: Person, message: Json) -> Json:
    found: Json = (await chat.client.get(path(message), headers=person.headers)).json()
    return found


async def revisions(chat: ChatApi, person: Person, message: Json) -> list[Json]:
    answer = await chat.client.get(path(message, "/revisions"), headers=person.headers)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def archive(chat: ChatApi, person: Person, session: Json) -> None:
    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=person.headers)


async def clear(chat: ChatApi, person: Person, session: Json) -> httpx.Response:
    return await chat.client.delete(f"{API}/sessions/{session['id']}/messages", headers=person.headers)


async def event_log(chat: ChatApi, session: Json) -> list[tuple[int, str, UUID | None, Any]]:
    rows = await chat.rows(
        "SELECT event_seq, type, message_id, data FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [tuple(row) for row in rows]


async def test_an_edit_keeps_the_earlier_text(chat: ChatApi, ann: Person, message: Json) -> None:
    answer = await edit(chat, ann, message, content="Second")
    edited = answer.json()
    assert answer.status_code == 200
    assert edited == message | {"content": "Second", "edited_at": edited["edited_at"]}
    assert edited["edited_at"] > message["created_at"]
    assert await read(chat, ann, message) == edited
    again = (await edit(chat, ann, message, content="Third")).json()
    assert await revisions(chat, ann, message) == [
        {
            "revision": 1,
            "content": "First",
            "written_at": message["created_at"],
            "replaced_at": edited["edited_at"],
        },
        {
            "revision": 2,
            "content": "Second",
            "written_at": edited["edited_at"],
            "replaced_at": again["edited_at"],
        },
    ]


async def test_an_unedited_message_has_no_revisions(chat: ChatApi, ann: Person, message: Json) -> None:
    assert await revisions(chat, ann, message) == []


async def test_metadata_alone_makes_no_revision(chat: ChatApi, ann: Person, message: Json) -> None:
    edited = (await edit(chat, ann, message, metadata={"new": 1})).json()
    assert edited == message | {"metadata": {"new": 1}}
    assert await revisions(chat, ann, message) == []


async def test_the_same_text_makes_no_revision(chat: ChatApi, ann: Person, message: Json) -> None:
    assert (await edit(chat, ann, message, content="First")).json() == message
    assert await revisions(chat, ann, message) == []


async def test_edits_at_once_all_leave_their_revision(chat: ChatApi, ann: Person, message: Json) -> None:
    texts = [f"Text {number}" for number in range(8)]
    answers = await asyncio.gather(*(edit(chat, ann, message, content=text) for text in texts))
    assert {answer.status_code for answer in answers} == {200}
    kept = await revisions(chat, ann, message)
    last = (await read(chat, ann, message))["content"]
    assert [revision["revision"] for revision in kept] == list(range(1, 9))
    assert kept[0]["content"] == "First"
    assert sorted([revision["content"] for revision in kept[1:]] + [last]) == texts


NONSENSE: list[Json] = [
    {"content": ""},
    {"content": None},
    {"content": "x" * 100_001},
    {"content": "nul \x00"},
    {"metadata": None},
    {"metadata": {"x": "y" * 16 * 1024}},
    {"role": "system"},
    {"seq": 9},
    {"sender": None},
]


async def test_nonsense_changes_nothing(chat: ChatApi, ann: Person, message: Json) -> None:
    for fields in NONSENSE:
        assert problem(await edit(chat, ann, message, **fields)) == (422, "validation-failed"), fields
    assert await read(chat, ann, message) == message


async def test_only_the_sender_edits(chat: ChatApi, ann: Person, bob: Person, session: Json, message: Json) -> None:
    await chat.join(session, bob)
    bobs = (await chat.said(bob, session, "Bob's"))["message"]
    assert problem(await edit(chat, bob, message, content="x")) == (403, "not-your-message")
    assert problem(await edit(chat, ann, bobs, content="x")) == (403, "not-your-message")
    assert (await edit(chat, bob, bobs, content="Bob's own")).status_code == 200
    assert (await read(chat, bob, message))["content"] == "First"


async def test_nobody_edits_the_assistant(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    reply = (await chat.said(ann, session))["reply"]
    assert problem(await edit(chat, ann, reply, content="x")) == (403, "not-your-message")


async def test_an_archived_session_is_not_edited(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    await archive(chat, ann, session)
    assert problem(await edit(chat, ann, message, content="x")) == (409, "session-archived")
    assert problem(await delete(chat, ann, message)) == (409, "session-archived")
    assert problem(await clear(chat, ann, session)) == (409, "session-archived")
    assert await chat.history(ann, session) == [message]


async def test_deleting_leaves_a_tombstone(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    await edit(chat, ann, message, content="Secret")
    later = (await chat.said(ann, session, "Later"))["message"]
    answer = await delete(chat, ann, message)
    assert (answer.status_code, answer.content) == (204, b"")
    tombstone = await read(chat, ann, message)
    assert tombstone == message | {
        "content": "",
        "metadata": {},
        "edited_at": tombstone["edited_at"],
        "deleted_at": tombstone["deleted_at"],
    }
    assert datetime.fromisoformat(tombstone["deleted_at"]).utcoffset() is not None
    assert await chat.history(ann, session) == [tombstone, later]
    assert await revisions(chat, ann, message) == []
    for text in ("First", "Secret"):
        for table in ("messages", "message_revisions", "session_events"):
            assert await chat.rows(f"SELECT 1 FROM chat.{table} t WHERE t::text LIKE '%{text}%'") == []


async def test_deleting_twice_is_the_same_as_once(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    await delete(chat, ann, message)
    tombstone = await read(chat, ann, message)
    assert (await delete(chat, ann, message)).status_code == 204
    assert await read(chat, ann, message) == tombstone
    assert [event[1] for event in await event_log(chat, session)] == ["message.created", "message.deleted"]
    assert problem(await edit(chat, ann, message, content="Back")) == (409, "message-deleted")


async def test_the_sender_and_the_owner_delete(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    await chat.join(session, bob)
    anns = (await chat.said(ann, session, "Ann's"))["message"]
    first = (await chat.said(bob, session, "Bob's first"))["message"]
    second = (await chat.said(bob, session, "Bob's second"))["message"]
    assert problem(await delete(chat, bob, anns)) == (403, "not-your-message")
    assert (await delete(chat, bob, first)).status_code == 204
    assert (await delete(chat, ann, second)).status_code == 204
    assert [item["content"] for item in await chat.history(bob, session)][-3:] == ["Ann's", "", ""]


async def test_the_owner_deletes_what_the_assistant_said(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, reply_policy="always")
    await chat.join(session, bob)
    reply = (await chat.said(bob, session))["reply"]
    assert problem(await delete(chat, bob, reply)) == (403, "not-your-message")
    assert (await delete(chat, ann, reply)).status_code == 204
    assert (await read(chat, ann, reply))["content"] == ""


async def test_what_is_still_being_written_is_not_deleted(chat: ChatApi, ann: Person) -> None:
    gate = Gate()
    chat.agent.script = gate
    session = await chat.session(ann)
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    streaming = (await chat.history(ann, session))[1]
    assert problem(await delete(chat, ann, streaming)) == (409, "message-streaming")
    assert problem(await clear(chat, ann, session)) == (409, "run-active")
    gate.opened.set()
    await chat.run_ended(ann, accepted["run"]["id"])
    assert (await read(chat, ann, streaming))["content"] == "So far."
    assert (await delete(chat, ann, streaming)).status_code == 204


async def test_clearing_empties_the_session_and_goes_on_counting(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    exchange = await chat.said(ann, session, client_id="c")
    await edit(chat, ann, exchange["message"], content="Edited")
    answer = await clear(chat, ann, session)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await chat.history(ann, session) == []
    assert await chat.rows("SELECT 1 FROM chat.message_revisions") == []
    read_session = (await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)).json()
    assert (read_session["message_count"], read_session["last_seq"]) == (0, 2)
    again = await chat.said(ann, session, "Afresh", client_id="c")
    assert (again["message"]["seq"], again["reply"]["seq"]) == (3, 4)
    read_session = (await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)).json()
    assert (read_session["message_count"], read_session["last_seq"]) == (2, 4)


async def test_only_the_owner_clears(chat: ChatApi, ann: Person, bob: Person, session: Json, message: Json) -> None:
    await chat.join(session, bob)
    assert problem(await clear(chat, bob, session)) == (403, "not-session-owner")
    assert (await chat.history(ann, session))[0] == message


async def test_each_change_is_an_event(chat: ChatApi, ann: Person, session: Json) -> None:
    first = (await chat.said(ann, session, "First"))["message"]
    second = (await chat.said(ann, session, "Second"))["message"]
    await edit(chat, ann, first, content="Edited")
    await edit(chat, ann, first, metadata={"a": 1})
    await delete(chat, ann, second)
    await clear(chat, ann, session)
    one, two = UUID(first["id"]), UUID(second["id"])
    assert await event_log(chat, session) == [
        (1, "message.created", one, None),
        (2, "message.created", two, None),
        (3, "message.updated", one, None),
        (4, "message.updated", one, None),
        (5, "message.deleted", two, None),
        (6, "session.updated", None, {"fields": ["messages"], "changes": {}, "cleared_through_seq": 2}),
    ]


async def test_an_edit_that_changes_nothing_is_no_event(
    chat: ChatApi, ann: Person, session: Json, message: Json
) -> None:
    assert (await edit(chat, ann, message)).json() == message
    assert (await edit(chat, ann, message, content="First")).json() == message
    assert [event[1] for event in await event_log(chat, session)] == ["message.created"]
