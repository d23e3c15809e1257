"""Reading what was said: windows of history in both directions, and one message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from chat_api.kit.models import new_id
from chat_api.messages.schemas import MessageRead, MessageWindow
from tests.factories.chat import API, ChatApi, Json, Person, problem


@pytest.fixture
async def talk(chat: ChatApi, ann: Person) -> Json:
    """A session of ten messages, "1" to "10"."""
    session = await chat.session(ann, reply_policy="never")
    for number in range(1, 11):
        await chat.said(ann, session, str(number))
    return session


async def ask(chat: ChatApi, person: Person, session: Json, **query: Any) -> httpx.Response:
    path = f"{API}/sessions/{session['id']}/messages"
    return await chat.client.get(path, params=query, headers=person.headers)


async def window(chat: ChatApi, person: Person, session: Json, **query: Any) -> tuple[list[int], str | None]:
    """The numbers in a window, and its cursor."""
    answer = await ask(chat, person, session, **query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [item["content"] for item in body["items"]] == [str(item["seq"]) for item in body["items"]]
    return [item["seq"] for item in body["items"]], body["next_cursor"]


async def test_an_empty_session_has_an_empty_window(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    for query in ({}, {"before_seq": 5}, {"after_seq": 0}, {"cursor": "a0"}):
        answer = await ask(chat, ann, session, **query)
        assert answer.json() == {"items": [], "next_cursor": None}


WINDOWS: list[tuple[Json, Iterable[int], bool]] = [
    ({}, range(1, 11), False),
    ({"limit": 3}, (8, 9, 10), True),
    ({"limit": 10}, range(1, 11), False),
    ({"before_seq": 5}, (1, 2, 3, 4), False),
    ({"before_seq": 5, "limit": 2}, (3, 4), True),
    ({"before_seq": 5, "limit": 4}, (1, 2, 3, 4), False),
    ({"before_seq": 1}, (), False),
    ({"before_seq": 0}, (), False),
    ({"before_seq": 2**63 - 1, "limit": 1}, (10,), True),
    ({"after_seq": 0, "limit": 4}, (1, 2, 3, 4), True),
    ({"after_seq": 7}, (8, 9, 10), False),
    ({"after_seq": 7, "limit": 3}, (8, 9, 10), False),
    ({"after_seq": 7, "limit": 2}, (8, 9), True),
    ({"after_seq": 10}, (), False),
    ({"after_seq": 2**63 - 1}, (), False),
]


async def test_windows(chat: ChatApi, ann: Person, talk: Json) -> None:
    for query, numbers, more in WINDOWS:
        found, cursor = await window(chat, ann, talk, **query)
        assert found == list(numbers), query
        assert (cursor is not None) is more, query


async def test_the_cursor_goes_back_to_the_first_message(chat: ChatApi, ann: Person, talk: Json) -> None:
    for limit in (1, 3, 5, 9):
        found, cursor = await window(chat, ann, talk, limit=limit)
        while cursor is not None:
            earlier, cursor = await window(chat, ann, talk, limit=limit, cursor=cursor)
            found = earlier + found
        assert found == list(range(1, 11))


async def test_the_cursor_goes_on_to_the_last_message(chat: ChatApi, ann: Person, talk: Json) -> None:
    for limit in (1, 3, 5, 9):
        found, cursor = await window(chat, ann, talk, limit=limit, after_seq=0)
        while cursor is not None:
            later, cursor = await window(chat, ann, talk, limit=limit, cursor=cursor)
            found += later
        assert found == list(range(1, 11))


async def test_new_messages_do_not_shift_the_way_back(chat: ChatApi, ann: Person, talk: Json) -> None:
    _, cursor = await window(chat, ann, talk, limit=4)
    await chat.said(ann, talk, "11")
    assert (await window(chat, ann, talk, limit=4, cursor=cursor))[0] == [3, 4, 5, 6]


NO_SENSE: list[Json] = [
    {"before_seq": 3, "after_seq": 1},
    {"before_seq": 3, "cursor": "b3"},
    {"after_seq": 3, "cursor": "a3"},
    {"before_seq": 3, "after_seq": 3, "cursor": "a3"},
    {"before_seq": -1},
    {"after_seq": -1},
    {"before_seq": 2**63},
    {"before_seq": "last"},
    {"limit": 0},
    {"limit": 101},
    {"cursor": ""},
    {"cursor": "b"},
    {"cursor": "c5"},
    {"cursor": "b5x"},
    {"cursor": "b-5"},
    {"cursor": "b5\n"},
    {"cursor": "b" + "9" * 19},
    {"cursor": "b\u0663"},
]


async def test_parameters_that_make_no_sense_are_refused(chat: ChatApi, ann: Person, talk: Json) -> None:
    for query in NO_SENSE:
        assert problem(await ask(chat, ann, talk, **query)) == (422, "validation-failed"), query


async def test_a_message_is_read_as_the_window_shows_it(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    exchange = await chat.said(ann, session, "Hi \U0001f600", metadata={"a": [1, None]}, client_id="c")
    shown = await chat.history(ann, session)
    assert shown == [exchange["message"], exchange["reply"]]
    for message in shown:
        path = f"{API}/sessions/{session['id']}/messages/{message['id']}"
        assert (await chat.client.get(path, headers=ann.headers)).json() == message


async def test_what_postgres_builds_is_what_the_document_declares(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, metadata={"a": 1})
    await chat.rows("UPDATE chat.messages SET cost = 0.000000125, edited_at = now(), tools_used = '{calculator}'")
    answer = await ask(chat, ann, session)
    assert MessageWindow.model_validate(answer.json(), strict=False).model_dump(mode="json") == answer.json()
    for item in answer.json()["items"]:
        assert set(item) == set(MessageRead.model_fields)


async def test_members_read_along(chat: ChatApi, ann: Person, bob: Person, talk: Json) -> None:
    await chat.join(talk, bob)
    assert await chat.history(bob, talk) == await chat.history(ann, talk)


async def test_strangers_find_nothing(chat: ChatApi, ann: Person, bob: Person, talk: Json) -> None:
    message = (await chat.history(ann, talk))[0]
    messages = f"{API}/sessions/{talk['id']}/messages"
    other = await chat.session(bob)
    answers = {
        "window": await chat.client.get(messages, headers=bob.headers),
        "clear": await chat.client.delete(messages, headers=bob.headers),
        "one": await chat.client.get(f"{messages}/{message['id']}", headers=bob.headers),
        "edit": await chat.client.patch(f"{messages}/{message['id']}", json={"content": "x"}, headers=bob.headers),
        "delete": await chat.client.delete(f"{messages}/{message['id']}", headers=bob.headers),
        "revisions": await chat.client.get(f"{messages}/{message['id']}/revisions", headers=bob.headers),
        "through my own": await chat.client.get(
            f"{API}/sessions/{other['id']}/messages/{message['id']}", headers=bob.headers
        ),
    }
    codes = {name: problem(answer) for name, answer in answers.items()}
    assert codes == {
        "window": (404, "session-not-found"),
        "clear": (404, "session-not-found"),
        "one": (404, "message-not-found"),
        "edit": (404, "message-not-found"),
        "delete": (404, "message-not-found"),
        "revisions": (404, "session-not-found"),
        "through my own": (404, "message-not-found"),
    }
    assert len(await chat.history(ann, talk)) == 10


async def test_a_message_that_is_not_there(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    path = f"{API}/sessions/{session['id']}/messages"
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/revisions")):
        body = {"content": "x"} if method == "PATCH" else None
        answer = await chat.client.request(method, f"{path}/{new_id()}{rest}", json=body, headers=ann.headers)
        assert problem(answer) == (404, "message-not-found"), (method, rest)
        answer = await chat.client.request(method, f"{path}/seven{rest}", json=body, headers=ann.headers)
        assert problem(answer) == (422, "validation-failed"), (method, rest)
