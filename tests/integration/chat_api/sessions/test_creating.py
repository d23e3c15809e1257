"""Starting a session: what it holds when little was said, when all was said, and when nonsense was."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.factories.chat import API, ChatApi, Json, Person, problem

ALL_FIELDS: Json = {
    "title": "Holiday plans",
    "provider": "openai",
    "model": "gpt-test",
    "system_prompt": "You are brief.",
    "reply_policy": "never",
    "approval_mode": "always",
    "tags": ["travel", "2026"],
    "metadata": {"colour": "blue", "deep": {"list": [1, 2.5, None, True]}},
    "settings": {"temperature": 0.5, "max_tokens": 100, "chat_history_length": 7, "tools": ["mcp:desk"]},
}


async def create(chat: ChatApi, person: Person, body: object) -> Any:
    return await chat.client.post(f"{API}/sessions", json=body, headers=person.headers)


async def test_an_empty_body_gives_the_defaults(chat: ChatApi, ann: Person) -> None:
    created = await chat.session(ann)
    assert created == {
        "id": created["id"],
        "title": "New conversation",
        "owner_id": str(ann.id),
        "participants": [{"user_id": str(ann.id), "username": "ann", "role": "owner", "last_read_seq": 0}],
        "bot_id": None,
        "provider": None,
        "model": None,
        "system_prompt": None,
        "related_session_id": None,
        "reply_policy": "always",
        "approval_mode": "risky",
        "status": "active",
        "tags": [],
        "metadata": {},
        "settings": {"temperature": None, "max_tokens": None, "chat_history_length": None, "tools": None},
        "message_count": 0,
        "last_seq": 0,
        "unread_count": 0,
        "last_activity_at": created["created_at"],
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
    }
    assert UUID(created["id"]).version == 7
    assert created["created_at"].endswith("Z")


async def test_every_field_is_kept(chat: ChatApi, ann: Person) -> None:
    created = await chat.session(ann, **ALL_FIELDS)
    assert {name: created[name] for name in ALL_FIELDS} == ALL_FIELDS
    read = await chat.client.get(f"{API}/sessions/{created['id']}", headers=ann.headers)
    assert read.json() == created


async def test_the_reply_policy_follows_the_number_of_participants(chat: ChatApi, ann: Person, bob: Person) -> None:
    open_to_default = await chat.session(ann)
    chosen = await chat.session(ann, reply_policy="always")
    for session, policy in ((open_to_default, "mentioned"), (chosen, "always")):
        await chat.join(session, bob)
        read = (await chat.client.get(f"{API}/sessions/{session['id']}", headers=bob.headers)).json()
        assert read["reply_policy"] == policy
        assert [person["role"] for person in read["participants"]] == ["owner", "member"]


NONSENSE: list[object] = [
    {"owner_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"},
    {"status": "archived"},
    {"settings": {"temprature": 1}},
    {"title": ""},
    {"title": "x" * 201},
    {"title": None},
    {"title": "nul \x00"},
    {"title": ["x"]},
    {"provider": "anthropic"},
    {"model": ""},
    {"system_prompt": "x" * 20_001},
    {"reply_policy": "sometimes"},
    {"approval_mode": None},
    {"tags": ["x"] * 21},
    {"tags": [""]},
    {"tags": "travel"},
    {"metadata": {"x": "y" * 16 * 1024}},
    {"metadata": {"nul \x00": 1}},
    {"metadata": {"n": 2**63}},
    {"metadata": []},
    {"settings": {"temperature": 2.01}},
    {"settings": {"max_tokens": 0}},
    {"settings": {"chat_history_length": 201}},
    [],
    None,
]


async def test_nonsense_is_refused(chat: ChatApi, ann: Person) -> None:
    for body in NONSENSE:
        answer = await create(chat, ann, body)
        assert problem(answer) == (422, "validation-failed"), body
        assert answer.json()["errors"]
    assert await chat.rows("SELECT 1 FROM chat.sessions") == []


async def test_lone_surrogates_are_refused(chat: ChatApi, ann: Person) -> None:
    headers = ann.headers | {"Content-Type": "application/json"}
    answer = await chat.client.post(f"{API}/sessions", content=b'{"title": "\\ud800"}', headers=headers)
    assert problem(answer) == (422, "validation-failed")


async def test_a_body_that_is_not_json_is_malformed(chat: ChatApi, ann: Person) -> None:
    headers = ann.headers | {"Content-Type": "application/json"}
    answer = await chat.client.post(f"{API}/sessions", content=b'{"title": ', headers=headers)
    assert problem(answer) == (400, "malformed-request")


async def test_nobody_starts_a_session_unnamed(chat: ChatApi) -> None:
    assert problem(await chat.client.post(f"{API}/sessions", json={})) == (401, "not-authenticated")
