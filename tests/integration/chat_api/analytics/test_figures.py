"""Figures of what people really did, through the routes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from chat_api import worker
from chat_api.analytics.folding import fold
from chat_api.analytics.recount import RECOUNT_TOPIC, Recount
from chat_api.config import ModelPrice
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.document_jobs import ParagraphExtraction
from tests.fakes.agent import USAGE, breaking_off, failing

PROBLEM = ProblemDocument(type="about:blank", title="No", status=502, detail="No.", code="model-unavailable")


async def get(chat: ChatApi, person: Person, path: str, **query: Any) -> Json:
    answer = await chat.client.get(f"{API}{path}", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


@pytest.fixture
async def admin(chat: ChatApi) -> Person:
    person = await chat.person("root")
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", person.id)
    return person


async def nothing_differs(chat: ChatApi) -> None:
    assert await Recount(chat.app.state.database).differences() == []


async def test_what_was_said_and_answered_is_counted_at_once(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session)
    await chat.said(ann, session)
    chat.agent.next_scripts = [failing(PROBLEM)]
    await chat.said(ann, session)

    mine = (await get(chat, ann, "/analytics/me"))["totals"]
    assert mine["sessions"] == 1
    assert mine["messages"] == {"total": 3, "user": 3, "assistant": 0, "system": 0, "tool": 0}
    assert mine["runs"] == {"total": 3, "completed": 2, "failed": 1, "cancelled": 0}
    assert mine["error_rate"] == 0.3333
    assert mine["tokens"]["total_tokens"] >= 2 * USAGE.total_tokens
    assert 19 <= mine["latency_ms"]["p50"] <= 23, "the agent says that it took 21 ms"
    assert 2 < mine["time_to_first_token_ms"]["p99"] <= 4
    his = (await get(chat, bob, "/analytics/me"))["totals"]
    assert (his["sessions"], his["messages"]["total"], his["runs"]["total"]) == (0, 0, 0)
    assert his["error_rate"] is None
    assert his["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    await nothing_differs(chat)


async def test_folding_changes_no_figure(chat: ChatApi, ann: Person, admin: Person) -> None:
    await chat.said(ann, await chat.session(ann))
    asked = [("/analytics/me", ann), ("/analytics/global", admin), ("/statistics/global", admin)]

    before = [await get(chat, person, path) for path, person in asked]
    assert await worker.fold_analytics({"database": chat.app.state.database}) > 0
    assert [await get(chat, person, path) for path, person in asked] == before
    assert await fold(chat.app.state.database) == 0
    await nothing_differs(chat)
    runners = worker.job_runners(
        chat.settings,
        chat.app.state.database,
        chat.app.state.storage,
        ParagraphExtraction(),
        chat.app.state.collections,
    )
    assert RECOUNT_TOPIC in runners[worker.PURGING_QUEUE].topics, "what was there before is counted by the worker"


async def test_what_is_deleted_counts_no_more(chat: ChatApi, ann: Person) -> None:
    kept, cleared, deleted = [await chat.session(ann) for _ in range(3)]
    said = await chat.said(ann, kept)
    for session in (cleared, deleted):
        await chat.said(ann, session)
    await fold(chat.app.state.database)

    path = f"{API}/sessions/{kept['id']}/messages/{said['message']['id']}"
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204
    path = f"{API}/sessions/{cleared['id']}/messages"
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204
    path = f"{API}/sessions/{deleted['id']}"
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204

    totals = (await get(chat, ann, "/analytics/me"))["totals"]
    assert totals["sessions"] == 2
    assert totals["messages"]["total"] == 0
    assert totals["runs"]["total"] == 2, "what was used in a session that is still there was used"
    await nothing_differs(chat)
    await fold(chat.app.state.database)
    await nothing_differs(chat)


async def test_an_answer_asked_for_again_is_charged_to_who_asked(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    await chat.join(session, bob)
    answer = await chat.client.post(
        f"{API}/sessions/{session['id']}/messages/{said['message']['id']}/regenerate",
        headers=bob.headers | {"Prefer": "respond-async"},
    )
    await chat.run_ended(bob, answer.json()["run"]["id"])

    assert (await get(chat, ann, "/analytics/me"))["totals"]["runs"]["total"] == 1
    assert (await get(chat, bob, "/analytics/me"))["totals"]["runs"]["total"] == 1
    assert (await get(chat, bob, "/analytics/me"))["totals"]["messages"]["total"] == 0


async def test_days_are_all_there_and_each_has_its_own(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    today = chat.clock.now().date()
    earlier = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=3, seconds=1)
    await chat.rows("UPDATE chat.messages SET created_at = $2 WHERE id = $1", UUID(said["message"]["id"]), earlier)

    found = await get(chat, ann, "/analytics/me", **{"from": str(today - timedelta(days=5)), "to": str(today)})
    days = {group["day"]: group["messages"]["total"] for group in found["groups"]}
    assert list(days) == [str(today - timedelta(days=number)) for number in (5, 4, 3, 2, 1, 0)]
    assert days[str(earlier.date())] == 1
    assert sum(days.values()) == found["totals"]["messages"]["total"] == 1
    only = await get(chat, ann, "/analytics/me", **{"from": str(earlier.date()), "to": str(earlier.date())})
    assert only["totals"]["messages"]["total"] == 1
    assert only["totals"]["sessions"] == 0
    await nothing_differs(chat)


async def test_models_and_tools_are_told_apart(chat: ChatApi, ann: Person, admin: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session)
    await chat.said(ann, session)
    [run, other] = await chat.rows("SELECT id FROM chat.runs")
    await chat.rows(
        "UPDATE chat.runs SET provider = 'openai', model = 'dear', cost = 0.25, latency_ms = 3000 WHERE id = $1",
        run["id"],
    )
    for number, (tool, status) in enumerate((("clock", "succeeded"), ("clock", "failed"), ("fetch", "rejected"))):
        await chat.rows(
            "INSERT INTO chat.tool_executions (session_id, id, run_id, message_id, requested_by, round, position,"
            " call_id, said_characters, tool_name, source, risk, repeatable, parameters, arguments, status,"
            " duration_ms, finished_at) VALUES ($1, uuidv7(), $2, uuidv7(), $3, 1, $4::int, $4::int::text, 0, $5,"
            " 'builtin', 'safe', true, '{}', '{}', $6, 80, now())",
            UUID(session["id"]),
            other["id"],
            ann.id,
            number,
            tool,
            status,
        )

    for person, path in ((ann, "/analytics/me"), (admin, "/analytics/global")):
        models = (await get(chat, person, path, group_by="model"))["groups"]
        assert [(group["provider"], group["model"], group["runs"]["total"]) for group in models] == [
            ("local", "scripted", 1),
            ("openai", "dear", 1),
        ]
        assert [group["cost"] for group in models] == [0, 0.25]
        assert 2700 < models[1]["latency_ms"]["p50"] < 3500
        providers = (await get(chat, person, path, group_by="provider"))["groups"]
        assert {group["provider"]: group["runs"]["total"] for group in providers} == {"local": 1, "openai": 1}
        tools = (await get(chat, person, path, group_by="tool"))["groups"]
        assert [(group["tool_name"], group["calls"]["total"], group["error_rate"]) for group in tools] == [
            ("clock", 2, 0.5),
            ("fetch", 1, 0.0),
        ]
        assert 70 < tools[0]["duration_ms"]["p95"] < 95
        totals = (await get(chat, person, path))["totals"]
        assert totals["tools"] == {"total": 3, "succeeded": 1, "failed": 1, "rejected": 1, "timed_out": 0}
        assert totals["cost"] == 0.25
    await nothing_differs(chat)


async def test_everybody_together(chat: ChatApi, ann: Person, bob: Person, admin: Person) -> None:
    for person, messages in ((ann, 2), (bob, 1)):
        session = await chat.session(person)
        for _ in range(messages):
            await chat.said(person, session)
    await fold(chat.app.state.database)
    said = await chat.said(bob, await chat.session(bob))
    await chat.client.delete(
        f"{API}/sessions/{said['message']['session_id']}/messages/{said['message']['id']}", headers=bob.headers
    )

    found = await get(chat, admin, "/analytics/global")
    assert found["totals"]["messages"] == {"total": 7, "user": 3, "assistant": 4, "system": 0, "tool": 0}
    assert found["totals"]["active_users"] == 2
    assert found["groups"][-1]["active_users"] == 2
    assert found["groups"][0]["active_users"] == 0
    people = (await get(chat, admin, "/analytics/global", group_by="user"))["groups"]
    assert {(one["username"], one["messages"]["user"], one["runs"]["total"]) for one in people} == {
        ("ann", 2, 2),
        ("bob", 1, 2),
    }
    assert len((await get(chat, admin, "/analytics/global", group_by="user", limit=1))["groups"]) == 1


async def test_who_deleted_all_they_said_was_not_active(chat: ChatApi, ann: Person, admin: Person) -> None:
    said = await chat.said(ann, await chat.session(ann))
    await fold(chat.app.state.database)
    path = f"{API}/sessions/{said['message']['session_id']}/messages/{said['message']['id']}"
    await chat.client.delete(path, headers=ann.headers)

    for _ in range(2):
        assert (await get(chat, admin, "/analytics/global"))["totals"]["active_users"] == 0
        assert (await get(chat, admin, "/statistics/global"))["active_users"] == {"day": 0, "week": 0, "month": 0}
        await fold(chat.app.state.database)


async def test_all_there_is(chat: ChatApi, ann: Person, admin: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session)
    await chat.bot(ann)
    other = await chat.session(ann, reply_policy="never")
    await chat.client.post(f"{API}/sessions/{other['id']}/archive", headers=ann.headers)
    run = await chat.rows("SELECT trigger_message_id FROM chat.runs")
    await chat.rows(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id) VALUES ($1, uuidv7(), $2)",
        UUID(other["id"]),
        run[0]["trigger_message_id"],
    )

    found = await get(chat, admin, "/statistics/global")
    assert found["users"] == 2
    assert found["active_users"] == {"day": 1, "week": 1, "month": 1}
    assert found["sessions"] == {"total": 2, "active": 1, "archived": 1}
    assert found["messages"]["total"] == 2
    assert found["runs"] == {
        "total": 2,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
        "queued": 1,
        "running": 0,
        "awaiting_approval": 0,
    }
    assert found["bots"] == 1
    assert found["tokens"]["total_tokens"] == USAGE.total_tokens
    await nothing_differs(chat)


async def test_a_session_is_counted_from_its_rows(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    for _ in range(2):
        await chat.said(ann, session)
    runs = await chat.rows("SELECT id FROM chat.runs ORDER BY id")
    await chat.rows("UPDATE chat.runs SET latency_ms = 100, cost = 0.5 WHERE id = $1", runs[0]["id"])
    await chat.rows("UPDATE chat.runs SET latency_ms = 300, cost = 0.125 WHERE id = $1", runs[1]["id"])

    found = await get(chat, ann, f"/sessions/{session['id']}/statistics")
    assert found["messages"] == {"total": 4, "user": 2, "assistant": 2, "system": 0, "tool": 0}
    assert found["participants"] == 1
    assert found["runs"]["completed"] == found["runs"]["total"] == 2
    assert found["tokens"] == {
        "prompt_tokens": 2 * USAGE.prompt_tokens,
        "completion_tokens": 2 * USAGE.completion_tokens,
        "total_tokens": 2 * USAGE.total_tokens,
    }
    assert found["cost"] == 0.625
    assert found["latency_ms"] == {"p50": 200, "p95": 290, "p99": 298}
    assert found["error_rate"] == 0
    assert [(model["provider"], model["model"], model["runs"]) for model in found["models"]] == [
        ("local", "scripted", 2)
    ]
    assert found["tools"] == []
    history = await chat.history(ann, session)
    assert found["first_message_at"] == history[0]["created_at"]
    assert found["last_message_at"] == history[-1]["created_at"]
    asked = await chat.client.get(f"{API}/sessions/{session['id']}/statistics", headers=bob.headers)
    assert asked.status_code == 404

    empty = await get(chat, ann, f"/sessions/{(await chat.session(ann))['id']}/statistics")
    assert empty["messages"]["total"] == 0
    assert (empty["first_message_at"], empty["error_rate"], empty["latency_ms"]["p50"]) == (None, None, None)


async def test_a_period_has_an_order_and_an_end(chat: ChatApi, ann: Person) -> None:
    for first, last in (("2026-02-01", "2026-01-01"), ("2024-01-01", "2026-01-01"), ("0001-01-01", "9999-12-31")):
        answer = await chat.client.get(f"{API}/analytics/me", params={"from": first, "to": last}, headers=ann.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-period")
    for last in ("0001-01-01", "9999-12-31"):
        assert (await get(chat, ann, "/analytics/me", to=last))["to"] == last, "the ends of the calendar are days too"
    year = await get(chat, ann, "/analytics/me", **{"from": "2024-01-01", "to": "2024-12-31"})
    assert len(year["groups"]) == 366


async def test_cost_is_what_the_price_table_says(chat: ChatApi, ann: Person) -> None:
    said = await chat.said(ann, await chat.session(ann))
    assert said["reply"]["cost"] == 0, "the local model is free unless somebody says otherwise"
    [row] = await chat.rows("SELECT cost, requested_by, provider, model, latency_ms FROM chat.runs")
    assert (row["cost"], row["latency_ms"]) == (Decimal(0), 21)
    assert (row["requested_by"], row["provider"], row["model"]) == (ann.id, "local", "scripted")

    chat.settings.prices["local:scripted"] = ModelPrice(prompt=Decimal(1000), completion=Decimal(2000))
    said = await chat.said(ann, await chat.session(ann))
    assert said["reply"]["cost"] == pytest.approx(0.007 + 0.010)
    assert (await get(chat, ann, "/analytics/me"))["totals"]["cost"] == pytest.approx(0.017)


async def test_a_run_that_failed_has_the_model_that_was_asked(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, provider="openai", model="small")
    chat.agent.next_scripts = [failing(PROBLEM, "So"), breaking_off("So")]
    for _ in range(2):
        said = await chat.said(ann, session)
        assert (said["run"]["status"], said["reply"]["model"]) == ("failed", None)

    [model] = (await get(chat, ann, "/analytics/me", group_by="model"))["groups"]
    assert (model["provider"], model["model"], model["runs"]["failed"]) == ("openai", "small", 2)
    assert model["latency_ms"]["p50"] is None, "what failed at once would make it look quick"
