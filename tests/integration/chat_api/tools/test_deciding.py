"""Approving and rejecting: who may, what is stored, and what a decision may change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.contracts.tools import MAX_ARGUMENT_BYTES
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.tool_calls import ARGUMENTS, call_row, run_row, tool_call, tool_events, waiting_run


async def decide(chat: ChatApi, person: Person, execution_id: UUID, verdict: str, **body: Any) -> httpx.Response:
    path = f"{API}/tool-executions/{execution_id}/{verdict}"
    return await chat.client.post(path, json=body, headers=person.headers)


async def test_the_owner_approves_and_the_run_goes_on(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)

    answer = await decide(chat, ann, run.calls[0], "approve")

    assert answer.status_code == 200, answer.text
    execution = answer.json()
    assert execution["id"] == str(run.calls[0])
    assert (execution["status"], execution["decided_by"]) == ("approved", str(ann.id))
    assert execution["decided_at"] is not None
    assert execution["finished_at"] is None
    assert (execution["arguments"], execution["model_arguments"]) == (ARGUMENTS, None)
    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("queued", 0)
    assert await tool_events(chat, run) == [("tool.approved", run.calls[0])]


async def test_a_rejection_keeps_its_reason(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)

    answer = await decide(chat, ann, run.calls[0], "reject", reason="Ask the harbour office.")

    execution = answer.json()
    assert (execution["status"], execution["reason"]) == ("rejected", "Ask the harbour office.")
    assert execution["finished_at"] is not None
    assert (await run_row(chat, run))["status"] == "queued"
    assert await tool_events(chat, run) == [("tool.rejected", run.calls[0])]


async def test_a_run_waits_for_the_last_of_its_calls(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, calls=3)

    for number, verdict in ((1, "reject"), (0, "approve")):
        assert (await decide(chat, ann, run.calls[number], verdict)).status_code == 200
    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("awaiting_approval", 1)

    await decide(chat, ann, run.calls[2], "approve")
    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("queued", 0)
    assert [call for _, call in await tool_events(chat, run)] == [run.calls[1], run.calls[0], run.calls[2]]


async def test_a_run_that_goes_on_meanwhile_is_left_to_it(chat: ChatApi, ann: Person, session: Json) -> None:
    """Another call of the round runs, so a process holds the run: it finds the decision by itself."""
    run = await waiting_run(chat, ann, session, status="running")

    assert (await decide(chat, ann, run.calls[0], "approve")).status_code == 200

    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"], row["lease_owner"]) == ("running", 0, "somebody")


async def test_the_body_may_be_left_out(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, calls=2)

    for call, verdict in zip(run.calls, ("approve", "reject"), strict=True):
        answer = await chat.client.post(f"{API}/tool-executions/{call}/{verdict}", headers=ann.headers)
        assert answer.status_code == 200, answer.text


async def test_an_archived_session_can_be_decided_on(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=ann.headers)

    assert (await decide(chat, ann, run.calls[0], "approve")).status_code == 200


# -- who may --------------------------------------------------------------------------------------------------


async def test_who_asked_may_decide_and_another_member_may_not(
    chat: ChatApi, ann: Person, bob: Person, session: Json
) -> None:
    carol = await chat.person("carol")
    for member in (bob, carol):
        await chat.join(session, member)
    run = await waiting_run(chat, bob, session, calls=2)

    for verdict in ("approve", "reject"):
        assert problem(await decide(chat, carol, run.calls[0], verdict)) == (403, "decision-not-yours")
    assert await tool_events(chat, run) == []
    assert (await decide(chat, bob, run.calls[0], "approve")).json()["decided_by"] == str(bob.id)
    assert (await decide(chat, ann, run.calls[1], "approve")).json()["decided_by"] == str(ann.id)


async def test_a_stranger_finds_nothing(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)

    for verdict in ("approve", "reject"):
        assert problem(await decide(chat, bob, run.calls[0], verdict)) == (404, "tool-execution-not-found")
        changed = await decide(chat, bob, UUID(int=1), verdict)
        assert problem(changed) == (404, "tool-execution-not-found")
    changed = await decide(chat, bob, run.calls[0], "approve", arguments={"nonsense": 1})
    assert problem(changed) == (404, "tool-execution-not-found")
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"


async def test_who_asked_and_left_may_not_any_more(chat: ChatApi, bob: Person, session: Json) -> None:
    await chat.join(session, bob)
    run = await waiting_run(chat, bob, session)
    left = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=bob.headers)
    assert left.status_code == 204

    assert problem(await decide(chat, bob, run.calls[0], "approve")) == (404, "tool-execution-not-found")


async def test_a_key_needs_the_scope_to_write(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, calls=2)

    async def key(*scopes: str) -> Person:
        body = {"name": "key", "scopes": scopes}
        made = await chat.client.post(f"{API}/api-keys", json=body, headers=ann.headers)
        return Person(ann.id, ann.username, {"Authorization": f"Bearer {made.json()['key']}"})

    for verdict in ("approve", "reject"):
        refused = await decide(chat, await key("chat:read", "agent:invoke"), run.calls[0], verdict)
        assert problem(refused) == (403, "insufficient-scope")
    assert (await decide(chat, await key("chat:write"), run.calls[0], "approve")).status_code == 200


# -- once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["approve", "reject"])
async def test_a_decision_counts_once(chat: ChatApi, ann: Person, session: Json, first: str) -> None:
    run = await waiting_run(chat, ann, session, calls=2)
    await decide(chat, ann, run.calls[0], first)
    before = await call_row(chat, run.calls[0])

    for verdict, body in (
        (first, {}),
        ("approve", {}),
        ("reject", {"reason": "No."}),
        ("approve", {"arguments": {"url": "https://example.org/else"}}),
    ):
        assert problem(await decide(chat, ann, run.calls[0], verdict, **body)) == (409, "already-decided")

    assert await call_row(chat, run.calls[0]) == before
    assert (await run_row(chat, run))["pending_calls"] == 1
    assert len(await tool_events(chat, run)) == 1


@pytest.mark.parametrize("status", ["approved", "running", "succeeded", "failed", "timed_out", "rejected"])
async def test_what_does_not_wait_cannot_be_decided(chat: ChatApi, ann: Person, session: Json, status: str) -> None:
    run = await waiting_run(chat, ann, session)
    other = await tool_call(chat, run.session_id, run.id, position=7, status=status, expires_in=None)

    assert problem(await decide(chat, ann, other, "approve")) == (409, "already-decided")
    assert problem(await decide(chat, ann, other, "reject")) == (409, "already-decided")
    assert (await call_row(chat, other))["status"] == status


async def test_too_late_is_too_late(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, expires_in=timedelta(milliseconds=-1))

    for verdict in ("approve", "reject"):
        assert problem(await decide(chat, ann, run.calls[0], verdict)) == (409, "approval-expired")
    changed = await decide(chat, ann, run.calls[0], "approve", arguments={"nonsense": 1})
    assert problem(changed) == (409, "approval-expired")
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"
    assert (await run_row(chat, run))["status"] == "awaiting_approval"


# -- other arguments ------------------------------------------------------------------------------------------


async def test_changed_arguments_are_run_and_the_models_kept(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    wanted = {"url": "https://example.org/else", "times": 2}

    execution = (await decide(chat, ann, run.calls[0], "approve", arguments=wanted)).json()

    assert (execution["arguments"], execution["model_arguments"]) == (wanted, ARGUMENTS)
    row = await call_row(chat, run.calls[0])
    assert (row["arguments"], row["model_arguments"]) == (wanted, ARGUMENTS)


async def test_the_same_arguments_are_no_change(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)

    execution = (await decide(chat, ann, run.calls[0], "approve", arguments=ARGUMENTS)).json()

    assert (execution["arguments"], execution["model_arguments"]) == (ARGUMENTS, None)


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ({}, [["body", "arguments"]]),
        ({"url": 7}, [["body", "arguments", "url"]]),
        ({"url": "x" * 101}, [["body", "arguments", "url"]]),
        ({"url": "x", "times": 3}, [["body", "arguments", "times"]]),
        ({"url": "x", "is_admin": True}, [["body", "arguments"]]),
        ({"url": 7, "times": 3}, [["body", "arguments", "url"], ["body", "arguments", "times"]]),
        ({"url": "x", "token": "y" * MAX_ARGUMENT_BYTES}, [["body", "arguments"]]),
    ],
)
async def test_arguments_that_do_not_fit_decide_nothing(
    chat: ChatApi, ann: Person, session: Json, arguments: Json, places: list[list[str]]
) -> None:
    run = await waiting_run(chat, ann, session)

    answer = await decide(chat, ann, run.calls[0], "approve", arguments=arguments)

    assert problem(answer) == (422, "tool-arguments-invalid")
    assert sorted(error["loc"] for error in answer.json()["errors"]) == sorted(places)
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"
    assert (await run_row(chat, run))["pending_calls"] == 1
    assert await tool_events(chat, run) == []
    assert (await decide(chat, ann, run.calls[0], "approve")).status_code == 200


async def test_a_rejection_has_no_arguments_and_an_approval_no_reason(
    chat: ChatApi, ann: Person, session: Json
) -> None:
    run = await waiting_run(chat, ann, session)

    for verdict, body in (("reject", {"arguments": ARGUMENTS}), ("approve", {"reason": "Why not"})):
        assert problem(await decide(chat, ann, run.calls[0], verdict, **body)) == (422, "validation-failed")


async def test_what_is_not_shown_comes_back_unchanged(chat: ChatApi, ann: Person, session: Json) -> None:
    model = {"url": "https://example.org/tides", "token": "hunter2"}
    run = await waiting_run(chat, ann, session, arguments=model, redacted=("token",))

    wrong = await decide(chat, ann, run.calls[0], "approve", arguments={"url": 7, "token": "[redacted]"})
    answer = await decide(
        chat, ann, run.calls[0], "approve", arguments={"url": "https://example.org/else", "token": "[redacted]"}
    )

    assert problem(wrong) == (422, "tool-arguments-invalid")
    assert "hunter2" not in wrong.text + answer.text
    assert answer.json()["arguments"] == {"url": "https://example.org/else", "token": "[redacted]"}
    assert answer.json()["model_arguments"] == {"url": "https://example.org/tides", "token": "[redacted]"}
    row = await call_row(chat, run.calls[0])
    assert row["arguments"] == {"url": "https://example.org/else", "token": "hunter2"}
    assert row["model_arguments"] == model


async def test_what_is_not_shown_can_be_replaced(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, arguments=ARGUMENTS | {"token": "old"}, redacted=("token",))

    answer = await decide(chat, ann, run.calls[0], "approve", arguments=ARGUMENTS | {"token": "new"})

    assert answer.status_code == 200
    assert (await call_row(chat, run.calls[0]))["arguments"] == ARGUMENTS | {"token": "new"}
