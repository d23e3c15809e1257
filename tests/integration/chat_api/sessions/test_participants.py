"""Coming into a session and going: who may do it, what is told, and that it counts once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from chat_api.kit.models import new_id
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.stores import Database


def path(session: Json, rest: str = "") -> str:
    return f"{API}/sessions/{session['id']}/participants{rest}"


async def add(
    chat: ChatApi, caller: Person, session: Json, user_id: object, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await chat.client.post(
        path(session), json={"user_id": str(user_id)}, headers=caller.headers | (headers or {})
    )


async def remove(chat: ChatApi, caller: Person, session: Json, user_id: object) -> httpx.Response:
    return await chat.client.delete(path(session, f"/{user_id}"), headers=caller.headers)


async def read(chat: ChatApi, person: Person, session: Json) -> Json:
    answer = await chat.client.get(f"{API}/sessions/{session['id']}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def event_log(chat: ChatApi, session: Json) -> list[tuple[int, str, Any]]:
    rows = await chat.rows(
        "SELECT event_seq, type, data FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [(row["event_seq"], row["type"], row["data"]) for row in rows]


@pytest.fixture
async def room(chat: ChatApi, ann: Person) -> Json:
    return await chat.session(ann)


async def test_somebody_who_is_added_takes_part(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    answer = await add(chat, ann, room, bob.id)

    assert answer.status_code == 201
    assert answer.json() == {"user_id": str(bob.id), "username": "bob", "role": "member", "last_read_seq": 1}
    seen = await read(chat, bob, room)
    assert [(one["username"], one["role"]) for one in seen["participants"]] == [("ann", "owner"), ("bob", "member")]
    assert (seen["message_count"], seen["last_seq"], seen["unread_count"]) == (1, 1, 0)
    [told] = await chat.history(bob, room)
    assert (told["role"], told["sender"], told["seq"], told["content"]) == ("system", None, 1, "ann added bob")
    assert told["metadata"] == {"event": "participant.joined", "user_id": str(bob.id)}
    assert await event_log(chat, room) == [
        (1, "message.created", None),
        (2, "participant.joined", {"user_id": str(bob.id), "username": "bob", "role": "member"}),
    ]


async def test_what_was_said_before_is_open_and_read(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.said(ann, room, "Before")
    await chat.join(room, bob)

    assert [message["role"] for message in await chat.history(bob, room)] == ["user", "assistant", "system"]
    assert (await read(chat, bob, room))["unread_count"] == 0


async def test_adding_twice_is_the_same_as_once(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    first = await add(chat, ann, room, bob.id)
    second = await add(chat, ann, room, bob.id)
    owner = await add(chat, ann, room, ann.id)

    assert (second.status_code, second.json()) == (200, first.json())
    assert (owner.status_code, owner.json()["role"]) == (200, "owner")
    assert len(await event_log(chat, room)) == 2


async def test_adding_the_same_person_at_once_counts_once(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    answers = await asyncio.gather(*(add(chat, ann, room, bob.id) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert len((await read(chat, ann, room))["participants"]) == 2
    assert [kind for _, kind, _ in await event_log(chat, room)] == ["message.created", "participant.joined"]
    [row] = await chat.rows("SELECT participant_count FROM chat.sessions WHERE id = $1", UUID(room["id"]))
    assert row["participant_count"] == 2


async def test_a_key_gives_the_stored_answer(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    carl = await chat.person("carl")
    key = {"Idempotency-Key": "add-bob"}
    first = await add(chat, ann, room, bob.id, key)
    again = await add(chat, ann, room, bob.id, key)

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert problem(await add(chat, ann, room, carl.id, key)) == (422, "idempotency-key-reused")


async def test_who_is_not_there_cannot_be_added(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.rows("UPDATE chat.users SET is_active = false WHERE id = $1", bob.id)
    for nobody in (bob.id, new_id()):
        assert problem(await add(chat, ann, room, nobody)) == (404, "user-not-found")
    assert await event_log(chat, room) == []


NONSENSE: list[object] = [
    {},
    [],
    None,
    {"user_id": None},
    {"user_id": "bob"},
    {"user_id": 1},
    {"user_id": str(new_id()), "role": "owner"},
]


async def test_nonsense_is_refused(chat: ChatApi, ann: Person, room: Json) -> None:
    for body in NONSENSE:
        answer = await chat.client.post(path(room), json=body, headers=ann.headers)
        assert problem(answer) == (422, "validation-failed"), body
    assert problem(await remove(chat, ann, room, "bob")) == (422, "validation-failed")


async def test_a_session_is_full_some_day(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, max_participants=3) as chat:
        ann = await chat.person("ann")
        room = await chat.session(ann)
        people = [await chat.person() for _ in range(5)]

        answers = await asyncio.gather(*(add(chat, ann, room, person.id) for person in people))

        refused = [answer for answer in answers if answer.status_code != 201]
        assert [problem(answer) for answer in refused] == [(409, "session-full")] * 3
        there = (await read(chat, ann, room))["participants"]
        assert len(there) == 3
        assert (await add(chat, ann, room, there[1]["user_id"])).status_code == 200
        await remove(chat, ann, room, there[1]["user_id"])
        assert (await add(chat, ann, room, people[0].id)).status_code in (200, 201)


async def test_a_member_leaves(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    answer = await remove(chat, bob, room, bob.id)

    assert (answer.status_code, answer.content) == (204, b"")
    told = (await chat.history(ann, room))[-1]
    assert (told["role"], told["content"], told["seq"]) == ("system", "bob left", 2)
    assert told["metadata"] == {"event": "participant.left", "user_id": str(bob.id)}
    # The last event is the one that ends it for bob: he hears of nothing that comes after.
    assert (await event_log(chat, room))[2:] == [
        (3, "message.created", None),
        (4, "participant.left", {"user_id": str(bob.id), "username": "bob", "removed_by": None}),
    ]
    assert len((await read(chat, ann, room))["participants"]) == 1


async def test_the_owner_removes(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    assert (await remove(chat, ann, room, bob.id)).status_code == 204

    assert (await chat.history(ann, room))[-1]["content"] == "ann removed bob"
    left = {"user_id": str(bob.id), "username": "bob", "removed_by": str(ann.id)}
    assert (await event_log(chat, room))[-1] == (4, "participant.left", left)
    assert problem(await remove(chat, ann, room, bob.id)) == (404, "participant-not-found")
    assert problem(await remove(chat, ann, room, new_id())) == (404, "participant-not-found")


async def test_who_left_may_come_back(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    await remove(chat, bob, room, bob.id)
    await chat.join(room, bob)

    assert (await read(chat, bob, room))["unread_count"] == 0
    assert [kind for _, kind, _ in await event_log(chat, room)] == [
        "message.created",
        "participant.joined",
        "message.created",
        "participant.left",
        "message.created",
        "participant.joined",
    ]


async def test_leaving_at_once_counts_once(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    answers = await asyncio.gather(
        *(remove(chat, bob, room, bob.id) for _ in range(5)), *(remove(chat, ann, room, bob.id) for _ in range(5))
    )

    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 9
    assert len(await event_log(chat, room)) == 4
    [row] = await chat.rows("SELECT participant_count FROM chat.sessions WHERE id = $1", UUID(room["id"]))
    assert row["participant_count"] == 1


async def test_the_owner_stays(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    assert problem(await remove(chat, ann, room, ann.id)) == (409, "owner-cannot-leave")
    assert problem(await remove(chat, bob, room, ann.id)) == (403, "not-session-owner")


async def test_members_neither_add_nor_remove(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    carl = await chat.person("carl")
    for person in (bob, carl):
        await chat.join(room, person)
    before = await event_log(chat, room)

    assert problem(await add(chat, bob, room, (await chat.person()).id)) == (403, "not-session-owner")
    for other in (carl.id, new_id()):
        assert problem(await remove(chat, bob, room, other)) == (403, "not-session-owner")
    assert await event_log(chat, room) == before


async def test_strangers_find_no_session(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    for there in (room, {"id": str(new_id())}):
        assert problem(await add(chat, bob, there, bob.id)) == (404, "session-not-found")
        assert problem(await remove(chat, bob, there, bob.id)) == (404, "session-not-found")
        assert problem(await remove(chat, bob, there, ann.id)) == (404, "session-not-found")


async def test_an_archived_session_takes_nobody_in_and_holds_nobody(
    chat: ChatApi, ann: Person, bob: Person, room: Json
) -> None:
    carl = await chat.person("carl")
    await chat.join(room, bob)
    await chat.client.post(f"{API}/sessions/{room['id']}/archive", headers=ann.headers)

    for person in (carl, bob):
        assert problem(await add(chat, ann, room, person.id)) == (409, "session-archived")
    assert (await remove(chat, bob, room, bob.id)).status_code == 204
    assert len((await read(chat, ann, room))["participants"]) == 1


async def test_the_assistant_is_not_told_who_comes(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    await chat.said(bob, room, "@assistant hello")

    assert [message.content for message in chat.agent.requests[-1].messages] == ["@assistant hello"]


async def test_coming_going_and_speaking_at_once_leaves_no_gap(
    chat: ChatApi, ann: Person, bob: Person, room: Json
) -> None:
    people = [await chat.person() for _ in range(4)]

    async def come_and_go(person: Person) -> None:
        for _ in range(3):
            assert (await add(chat, ann, room, person.id)).status_code == 201
            assert (await remove(chat, person, room, person.id)).status_code == 204

    talk = (chat.send(ann, room, f"{number}", headers={"Prefer": "respond-async"}) for number in range(10))
    answers = (await asyncio.gather(*map(come_and_go, people), *talk))[len(people) :]
    assert [answer.status_code for answer in answers if answer is not None] == [202] * 10

    numbers = [number for number, _, _ in await event_log(chat, room)]
    assert numbers == list(range(1, len(numbers) + 1))
    rows = await chat.rows("SELECT seq FROM chat.messages WHERE session_id = $1 ORDER BY seq", UUID(room["id"]))
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


def routes(session: Json, message: Json, run: Json) -> list[tuple[str, str, Json | None]]:
    """Everything that a member may do in a session."""
    there, one = f"/sessions/{session['id']}", f"/sessions/{session['id']}/messages/{message['id']}"
    return [
        ("GET", there, None),
        ("GET", f"{there}/status", None),
        ("GET", f"{there}/messages", None),
        ("GET", one, None),
        ("GET", f"{one}/revisions", None),
        ("GET", f"/runs/{run['id']}", None),
        ("GET", f"/runs/{run['id']}/events", None),
        ("POST", f"{there}/messages", {"content": "Still here?"}),
        ("POST", f"{there}/messages", {"content": "Hello", "client_id": "his-first"}),
        ("POST", f"{one}/regenerate", None),
        ("POST", f"/runs/{run['id']}/cancel", None),
        ("PATCH", one, {"content": "Changed"}),
        ("PUT", f"{there}/read", {"seq": 1}),
        ("PUT", f"{one}/reactions/%F0%9F%91%8D", None),
        ("DELETE", one, None),
    ]


async def test_who_was_removed_finds_nothing_any_more(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.join(room, bob)
    said = await chat.said(bob, room, "@assistant Hello")
    await chat.said(bob, room, "Hello", client_id="his-first")
    await remove(chat, ann, room, bob.id)
    before = await event_log(chat, room)

    for method, rest, body in routes(room, said["message"], said["run"]):
        answer = await chat.client.request(method, API + rest, json=body, headers=bob.headers)
        assert answer.status_code == 404, (method, rest, answer.text)
    listed = await chat.client.get(f"{API}/sessions", headers=bob.headers)
    assert listed.json()["items"] == []
    assert await event_log(chat, room) == before
