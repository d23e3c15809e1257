"""Idle sessions are archived, and what a plan keeps no longer is removed; nothing else is touched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chat_api.config import DEFAULT_PLAN, Plan
from chat_api.retention import service
from chat_api.retention.service import Retention
from tests.factories.chat import API, ChatApi, Json, Person, problem

CLEANUP = f"{API}/admin/cleanup"


@pytest.fixture
async def admin(chat: ChatApi) -> Person:
    person = await chat.person("root-of-all")
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", person.id)
    return person


async def idle(chat: ChatApi, owner: Person, days: float) -> Json:
    session = await chat.session(owner)
    await chat.rows(
        "UPDATE chat.sessions SET last_activity_at = $2 WHERE id = $1",
        UUID(session["id"]),
        chat.clock.now() - timedelta(days=days),
    )
    return session


async def clean_up(chat: ChatApi, admin: Person, **query: Any) -> Json:
    answer = await chat.client.post(CLEANUP, params=query, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def statuses(chat: ChatApi) -> dict[str, str]:
    rows = await chat.rows("SELECT id, status FROM chat.sessions")
    return {str(row["id"]): row["status"] for row in rows}


def retention(chat: ChatApi, **plans: Plan) -> Retention:
    settings = chat.settings.model_copy(update={"plans": {DEFAULT_PLAN: Plan(), **plans}})
    return Retention(chat.app.state.database, chat.app.state.hints, settings, chat.clock)


async def test_what_is_idle_is_archived_and_told(chat: ChatApi, admin: Person, ann: Person) -> None:
    old, young = await idle(chat, ann, 31), await idle(chat, ann, 29)

    answer = await clean_up(chat, admin, days_old=30)

    assert answer == {"days_old": 30, "dry_run": False, "sessions": 1, "is_complete": True}
    assert await statuses(chat) == {old["id"]: "archived", young["id"]: "active"}
    [event] = await chat.rows("SELECT * FROM chat.session_events WHERE session_id = $1", UUID(old["id"]))
    own = await chat.client.post(f"{API}/sessions/{young['id']}/archive", headers=ann.headers)
    assert own.status_code == 200
    [same] = await chat.rows("SELECT * FROM chat.session_events WHERE session_id = $1", UUID(young["id"]))
    assert (event["event_seq"], event["type"], event["data"]) == (same["event_seq"], same["type"], same["data"])
    [entry] = await chat.rows("SELECT * FROM chat.audit_log")
    assert (entry["actor_id"], entry["action"]) == (admin.id, "sessions.archived")
    assert entry["details"] == {"days_old": 30, "sessions": 1}
    assert (await clean_up(chat, admin))["sessions"] == 0, "twice is the same as once"


async def test_a_dry_run_changes_nothing(chat: ChatApi, admin: Person, ann: Person) -> None:
    await idle(chat, ann, 31)
    await idle(chat, ann, 400)
    before = await chat.rows("SELECT * FROM chat.sessions ORDER BY id")

    assert (await clean_up(chat, admin, dry_run=True))["sessions"] == 2

    assert await chat.rows("SELECT * FROM chat.sessions ORDER BY id") == before
    assert await chat.rows("SELECT FROM chat.audit_log") == []
    assert await chat.rows("SELECT FROM chat.session_events") == []


async def test_a_session_with_a_run_is_left_alone(chat: ChatApi, admin: Person, ann: Person) -> None:
    for status in ("queued", "running", "awaiting_approval", "completed"):
        session = await idle(chat, ann, 90)
        await chat.rows(
            "INSERT INTO chat.runs (session_id, id, trigger_message_id, status, cancel_requested_at)"
            " VALUES ($1, $1, $1, $2::text, now())",
            UUID(session["id"]),
            status,
        )

    assert (await clean_up(chat, admin, dry_run=True))["sessions"] == 1
    assert (await clean_up(chat, admin))["sessions"] == 1


async def test_batches_see_every_session_once(
    chat: ChatApi, admin: Person, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [await idle(chat, ann, 31) for _ in range(5)]
    await idle(chat, ann, 1)
    monkeypatch.setattr(service, "_ARCHIVED_AT_ONCE", 2)

    assert await retention(chat).archive_idle(30, most=1) == 2, "it ends with the batch that reaches the most"
    assert await retention(chat).archive_idle(30) == 3

    found = await statuses(chat)
    assert {session["id"] for session in old} == {key for key, status in found.items() if status == "archived"}


async def test_a_session_that_is_spoken_in_now_is_not_archived(chat: ChatApi, admin: Person, ann: Person) -> None:
    session = await idle(chat, ann, 31)
    async with chat.app.state.database.unit() as db:
        from sqlalchemy import text

        await db.execute(text("SELECT FROM chat.sessions WHERE id = :id FOR UPDATE"), {"id": UUID(session["id"])})
        assert (await clean_up(chat, admin))["sessions"] == 0

    assert await statuses(chat) == {session["id"]: "active"}


async def test_only_administrators_and_only_what_makes_sense(chat: ChatApi, admin: Person, ann: Person) -> None:
    assert problem(await chat.client.post(CLEANUP, headers=ann.headers)) == (403, "admin-required")
    for query in ({"days_old": 0}, {"days_old": 36_501}, {"days_old": "x"}, {"dry_run": "perhaps"}):
        answer = await chat.client.post(CLEANUP, params=query, headers=admin.headers)
        assert problem(answer) == (422, "validation-failed"), query


async def test_a_plan_keeps_sessions_for_so_long(chat: ChatApi, ann: Person, bob: Person) -> None:
    cid = await chat.person("cid")
    await chat.rows("UPDATE chat.users SET plan = 'brief' WHERE id = $1", ann.id)
    await chat.rows("UPDATE chat.users SET plan = 'gone' WHERE id = $1", cid.id)
    gone, kept = await idle(chat, ann, 11), await idle(chat, ann, 9)
    for_ever = await idle(chat, bob, 4_000)
    of_the_default = await idle(chat, cid, 31)
    archived = await idle(chat, ann, 20)
    await chat.rows("UPDATE chat.sessions SET status = 'archived' WHERE id = $1", UUID(archived["id"]))
    said = await chat.said(ann, gone, "Soon forgotten")
    await chat.rows(
        "UPDATE chat.sessions SET last_activity_at = $2 WHERE id = $1",
        UUID(gone["id"]),
        chat.clock.now() - timedelta(days=11),
    )
    assert said["run"] is not None
    plans = retention(chat, brief=Plan(retention_days=10), pro=Plan())
    await chat.rows("UPDATE chat.users SET plan = 'pro' WHERE id = $1", bob.id)

    assert await plans.remove_expired(dry_run=True) == 2
    assert len(await statuses(chat)) == 5
    assert await plans.remove_expired() == 2

    assert set(await statuses(chat)) == {kept["id"], for_ever["id"], of_the_default["id"]}
    assert await chat.rows("SELECT FROM chat.messages") == []
    [entry] = await chat.rows("SELECT * FROM chat.audit_log")
    assert (entry["actor_id"], entry["action"], entry["details"]) == (None, "sessions.expired", {"sessions": 2})
    strict = retention(chat, free=Plan(retention_days=30), pro=Plan())
    assert await strict.remove_expired(dry_run=True) == 1, "a plan that is no more counts as the default one"


async def test_without_limits_nothing_is_walked(chat: ChatApi, ann: Person) -> None:
    await idle(chat, ann, 4_000)

    assert await retention(chat).remove_expired() == 0
    assert len(await statuses(chat)) == 1
