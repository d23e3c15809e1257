"""The audit log: written with what it tells of, read by administrators page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chat_api.audit.service import AuditLog
from tests.factories.chat import API, ChatApi, Person, problem

AUDIT = f"{API}/admin/audit"


@asynccontextmanager
async def log(chat: ChatApi) -> AsyncIterator[AuditLog]:
    async with chat.app.state.database.unit() as db:
        yield AuditLog(db, chat.clock)


@pytest.fixture
async def admin(chat: ChatApi) -> Person:
    person = await chat.person("root-of-all")
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", person.id)
    return person


async def actions(chat: ChatApi, admin: Person, **query: str) -> list[str]:
    answer = await chat.client.get(AUDIT, params=query, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    return [entry["action"] for entry in answer.json()["items"]]


async def test_an_entry_tells_who_did_what_to_what(chat: ChatApi, admin: Person, ann: Person) -> None:
    async with log(chat) as audit:
        await audit.record(
            admin.id, "user.closed", subject_type="user", subject_id=ann.id, details={"because": ["spam", 3]}
        )

    [entry] = (await chat.client.get(AUDIT, headers=admin.headers)).json()["items"]

    UUID(entry.pop("id"))
    assert abs(datetime.fromisoformat(entry.pop("created_at")) - chat.clock.now()) < timedelta(minutes=1)
    assert entry == {
        "actor": {"id": str(admin.id), "username": admin.username},
        "action": "user.closed",
        "subject_type": "user",
        "subject_id": str(ann.id),
        "details": {"because": ["spam", 3]},
    }


async def test_what_was_not_done_is_not_in_it(chat: ChatApi, admin: Person) -> None:
    async def undone() -> None:
        async with log(chat) as audit:
            await audit.record(admin.id, "user.closed", subject_type="user")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await undone()

    assert await actions(chat, admin) == []


async def test_filters(chat: ChatApi, admin: Person, ann: Person) -> None:
    start = chat.clock.now()
    for actor, action, subject in (
        (admin.id, "user.closed", ann.id),
        (ann.id, "user.changed", ann.id),
        (None, "sessions.expired", None),
    ):
        async with log(chat) as audit:
            await audit.record(actor, action, subject_type=action.split(".", maxsplit=1)[0], subject_id=subject)
        chat.clock.advance(timedelta(minutes=1))

    assert await actions(chat, admin) == ["sessions.expired", "user.changed", "user.closed"]
    assert await actions(chat, admin, actor_id=str(ann.id)) == ["user.changed"]
    assert await actions(chat, admin, subject_id=str(ann.id)) == ["user.changed", "user.closed"]
    assert await actions(chat, admin, action="user.closed") == ["user.closed"]
    assert await actions(chat, admin, subject_type="sessions") == ["sessions.expired"]
    second = (start + timedelta(minutes=1)).isoformat()
    assert await actions(chat, admin, after=second) == ["sessions.expired", "user.changed"]
    assert await actions(chat, admin, before=second) == ["user.closed"]
    assert await actions(chat, admin, actor_id=str(uuid4())) == []


async def test_pages_have_every_entry_once(chat: ChatApi, admin: Person) -> None:
    async with log(chat) as audit:
        for number in range(5):  # all of one moment
            await audit.record(admin.id, f"user.{'abcde'[number]}", subject_type="user")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = (await chat.client.get(AUDIT, params=query, headers=admin.headers)).json()
        seen += [entry["action"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == [f"user.{letter}" for letter in "edcba"]


async def test_who_may_not(chat: ChatApi, admin: Person, ann: Person) -> None:
    assert problem(await chat.client.get(AUDIT)) == (401, "not-authenticated")
    assert problem(await chat.client.get(AUDIT, headers=ann.headers)) == (403, "admin-required")
    await chat.rows("UPDATE chat.users SET is_admin = false WHERE id = $1", admin.id)
    assert problem(await chat.client.get(AUDIT, headers=admin.headers)) == (403, "admin-required")


@pytest.mark.parametrize(
    "query",
    [
        {"after": "0001-01-01T00:00:00+14:00"},
        {"before": "9999-12-31T23:59:59-14:00"},
        {"after": "2026-01-01T00:00:00"},
        {"action": "x' OR 1=1"},
        {"subject_id": "x"},
    ],
)
async def test_bad_filters_are_refused(chat: ChatApi, admin: Person, query: dict[str, str]) -> None:
    answer = await chat.client.get(AUDIT, params=query, headers=admin.headers)

    assert problem(answer) == (422, "validation-failed")
