"""Changing, archiving and deleting a session: by its owner alone, each change told once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx

from chat_api.kit.models import new_id
from tests.factories.chat import API, ChatApi, Json, Person, problem


def path(session: Json, rest: str = "") -> str:
    return f"{API}/sessions/{session['id']}{rest}"


async def patch(chat: ChatApi, person: Person, session: Json, **fields: Any) -> httpx.Response:
    return await chat.client.patch(path(session), json=fields, headers=person.headers)


async def read(chat: ChatApi, person: Person, session: Json) -> Json:
    answer = await chat.client.get(path(session), headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def event_log(chat: ChatApi, session: Json) -> list[tuple[int, str, Any]]:
    rows = await chat.rows(
        "SELECT event_seq, type, data FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [(row["event_seq"], row["type"], row["data"]) for row in rows]


async def test_only_what_is_sent_changes(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, title="Old", tags=["a"], metadata={"k": 1}, system_prompt="Be brief.")
    answer = await patch(chat, ann, session, title="New")
    assert answer.status_code == 200
    changed = answer.json()
    assert changed == session | {"title": "New", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > session["updated_at"]
    assert await read(chat, ann, session) == changed


async def test_every_field_can_change(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    wanted = {
        "title": "T",
        "provider": "local",
        "model": "m",
        "system_prompt": "p",
        "reply_policy": "mentioned",
        "approval_mode": "never",
        "tags": ["x"],
        "metadata": {"y": [1]},
        "settings": {"temperature": 1.0, "max_tokens": 5, "chat_history_length": 3, "tools": ["calculator"]},
    }
    changed = (await patch(chat, ann, session, **wanted)).json()
    assert {name: changed[name] for name in wanted} == wanted


async def test_null_resets_what_may_be_empty(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(
        ann, provider="local", model="m", system_prompt="p", reply_policy="never", settings={"temperature": 1}
    )
    answer = await patch(
        chat,
        ann,
        session,
        provider=None,
        model=None,
        system_prompt=None,
        reply_policy=None,
        settings={"temperature": None},
    )
    changed = answer.json()
    assert [changed[name] for name in ("provider", "model", "system_prompt")] == [None, None, None]
    assert changed["reply_policy"] == "always"
    assert changed["settings"]["temperature"] is None


async def test_settings_are_merged_and_the_rest_replaced(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(
        ann, settings={"temperature": 0.5, "max_tokens": 10}, metadata={"a": 1, "b": 2}, tags=["x", "y"]
    )
    answer = await patch(chat, ann, session, settings={"max_tokens": 20}, metadata={"b": 3}, tags=["z"])
    changed = answer.json()
    assert changed["settings"] == {"temperature": 0.5, "max_tokens": 20, "chat_history_length": None, "tools": None}
    assert changed["metadata"] == {"b": 3}
    assert changed["tags"] == ["z"]


NONSENSE: list[Json] = [
    {"owner_id": str(new_id())},
    {"status": "archived"},
    {"message_count": 5},
    {"title": None},
    {"title": ""},
    {"approval_mode": None},
    {"tags": None},
    {"metadata": None},
    {"settings": None},
    {"settings": {"speed": 1}},
    {"provider": "nobody"},
]


async def test_nonsense_changes_nothing(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    for fields in NONSENSE:
        assert problem(await patch(chat, ann, session, **fields)) == (422, "validation-failed"), fields
    assert await read(chat, ann, session) == session
    assert await event_log(chat, session) == []


async def test_changes_are_told_in_order_without_gaps(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await patch(chat, ann, session, title="One", tags=["x"])
    await patch(chat, ann, session)
    await chat.client.post(path(session, "/archive"), headers=ann.headers)
    await chat.client.post(path(session, "/archive"), headers=ann.headers)
    await chat.client.post(path(session, "/unarchive"), headers=ann.headers)
    assert await event_log(chat, session) == [
        (1, "session.updated", {"fields": ["tags", "title"], "changes": {"tags": ["x"], "title": "One"}}),
        (2, "session.updated", {"fields": ["status"], "changes": {"status": "archived"}}),
        (3, "session.updated", {"fields": ["status"], "changes": {"status": "active"}}),
    ]


async def test_changes_are_told_as_they_read_afterwards(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never", settings={"temperature": 0.5})
    bot, linked = await chat.bot(ann), await chat.session(ann)
    wanted = {
        "reply_policy": None,
        "settings": {"max_tokens": 20},
        "metadata": {"at": {"n": [1, None]}},
        "bot_id": bot["id"],
        "related_session_id": linked["id"],
    }
    changed = (await patch(chat, ann, session, **wanted)).json()
    [(_, kind, data)] = await event_log(chat, session)
    assert (kind, data["fields"]) == ("session.updated", sorted(wanted))
    assert data["changes"] == {name: changed[name] for name in wanted}
    assert data["changes"]["reply_policy"] == "always"
    assert data["changes"]["settings"] == {
        "temperature": 0.5,
        "max_tokens": 20,
        "chat_history_length": None,
        "tools": None,
    }


async def test_changes_at_once_are_numbered_without_gaps(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    writes = [patch(chat, ann, session, title=f"Title {number}") for number in range(10)]
    sends = [chat.send(ann, session, f"Message {number}") for number in range(10)]
    answers = await asyncio.gather(*writes, *sends)
    assert {answer.status_code for answer in answers} == {200, 201}
    events = await event_log(chat, session)
    assert [event[0] for event in events] == list(range(1, 21))
    assert sorted(event[1] for event in events) == ["message.created"] * 10 + ["session.updated"] * 10


async def test_the_database_itself_refuses_a_number_twice(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.said(ann, session)
    insert_event = "INSERT INTO chat.session_events (session_id, event_seq, type) VALUES ($1, $2, 'session.updated')"
    insert_message = (
        "INSERT INTO chat.messages (session_id, seq, id, role, content) VALUES ($1, $2, uuidv7(), 'user', 'x')"
    )
    for statement in (insert_event, insert_message):
        answers = await asyncio.gather(
            *(chat.rows(statement, UUID(session["id"]), 2) for _ in range(5)), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [type(error).__name__ for error in refused] == ["UniqueViolationError"] * 4


async def test_archiving_is_read_only_and_the_same_twice(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    message = (await chat.said(ann, session, "Before"))["message"]
    first = await chat.client.post(path(session, "/archive"), headers=ann.headers)
    second = await chat.client.post(path(session, "/archive"), headers=ann.headers)
    assert (first.status_code, first.json()["status"]) == (200, "archived")
    assert second.json() == first.json()
    one = path(session, f"/messages/{message['id']}")
    refused = (
        await chat.send(ann, session),
        await chat.client.patch(one, json={"content": "After"}, headers=ann.headers),
        await chat.client.delete(one, headers=ann.headers),
        await chat.client.delete(path(session, "/messages"), headers=ann.headers),
        await chat.client.post(one + "/regenerate", headers=ann.headers),
    )
    assert [problem(answer) for answer in refused] == [(409, "session-archived")] * 5
    assert await chat.history(ann, session) == [message]


async def test_unarchiving_makes_it_writable_again(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    unarchive = path(session, "/unarchive")
    unchanged = await chat.client.post(unarchive, headers=ann.headers)
    assert unchanged.json() == session
    await chat.client.post(path(session, "/archive"), headers=ann.headers)
    answer = await chat.client.post(unarchive, headers=ann.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    assert (await chat.send(ann, session)).status_code == 201


async def test_deleting_takes_everything_along(chat: ChatApi, ann: Person) -> None:
    kept = await chat.session(ann)
    await chat.said(ann, kept)
    session = await chat.session(ann)
    message = (await chat.said(ann, session))["message"]
    one = path(session, f"/messages/{message['id']}")
    await chat.client.patch(one, json={"content": "Edited"}, headers=ann.headers)
    deleted = await chat.client.delete(path(session), headers=ann.headers)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for table in ("participants", "messages", "message_revisions", "runs", "session_events"):
        rows = await chat.rows(f"SELECT 1 FROM chat.{table} WHERE session_id = $1", UUID(session["id"]))
        assert rows == [], table
    assert problem(await chat.client.delete(path(session), headers=ann.headers)) == (404, "session-not-found")
    assert problem(await chat.client.get(path(session), headers=ann.headers)) == (404, "session-not-found")
    assert len(await chat.history(ann, kept)) == 2


OWNERS_ROUTES: list[tuple[str, str, Json | None]] = [
    ("PATCH", "", {"title": "Mine now"}),
    ("DELETE", "", None),
    ("POST", "/archive", None),
    ("POST", "/unarchive", None),
    ("DELETE", "/messages", None),
]


async def test_members_may_look_but_not_change(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    before = await read(chat, bob, session)
    log = await event_log(chat, session)
    for method, rest, body in OWNERS_ROUTES:
        answer = await chat.client.request(method, path(session, rest), json=body, headers=bob.headers)
        assert problem(answer) == (403, "not-session-owner"), (method, rest)
    assert await read(chat, bob, session) == before
    assert await event_log(chat, session) == log


async def test_strangers_find_nothing(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    for method, rest, body in [("GET", "", None), *OWNERS_ROUTES]:
        for there in (session, {"id": str(new_id())}):
            answer = await chat.client.request(method, path(there, rest), json=body, headers=bob.headers)
            assert problem(answer) == (404, "session-not-found"), (method, rest)
    assert await read(chat, ann, session) == session


async def test_an_id_that_is_none_is_refused(chat: ChatApi, ann: Person) -> None:
    for method, rest, body in [("GET", "", None), *OWNERS_ROUTES]:
        answer = await chat.client.request(method, f"{API}/sessions/42{rest}", json=body, headers=ann.headers)
        assert problem(answer) == (422, "validation-failed"), (method, rest)


async def test_the_database_itself_lets_one_run_of_a_session_be_active(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    insert_run = (
        "INSERT INTO chat.runs (session_id, id, trigger_message_id, status, lease_expires_at)"
        " VALUES ($1, uuidv7(), uuidv7(), $2, now() + interval '1 hour')"
    )
    kinds = ("running", "awaiting_approval") * 3
    answers = await asyncio.gather(
        *(chat.rows(insert_run, UUID(session["id"]), kind) for kind in kinds), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error).__name__ for error in refused] == ["UniqueViolationError"] * 5
    for status in ("queued", "completed", "failed", "cancelled"):
        await chat.rows(insert_run, UUID(session["id"]), status)
