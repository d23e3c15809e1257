"""What nobody decides on in time is rejected, and its run goes on to end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

from chat_api.tools.repository import Expired, ToolRepository
from chat_api.tools.service import ToolDecisions
from shared.contracts.tools import ToolVerdict
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.tool_calls import call_row, run_row, tool_call, tool_events, waiting_run
from tests.stores import Database

LATE = timedelta(milliseconds=-1)


async def test_all_calls_of_the_run_are_rejected_and_it_goes_on(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository
) -> None:
    run = await waiting_run(chat, ann, session, calls=3, expires_in=LATE)
    done = await tool_call(chat, run.session_id, run.id, position=9, status="succeeded", expires_in=None)

    expired = await repository.expire(10)

    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("queued", 0)
    assert row["expired_at"] is not None
    for call in run.calls:
        execution = await call_row(chat, call)
        assert (execution["status"], execution["reason"]) == ("rejected", "Nobody decided in time.")
        assert (execution["decided_by"], execution["decided_at"]) == (None, None)
        assert execution["finished_at"] is not None
    assert (await call_row(chat, done))["status"] == "succeeded"
    events = await tool_events(chat, run)
    assert events == [("tool.rejected", call) for call in run.calls]
    [last] = await chat.rows("SELECT last_event_seq FROM chat.sessions WHERE id = $1", run.session_id)
    assert expired == [Expired(run.session_id, last["last_event_seq"])]
    assert await repository.expire(10) == []


async def test_what_is_in_time_waits_on(chat: ChatApi, ann: Person, session: Json, repository: ToolRepository) -> None:
    run = await waiting_run(chat, ann, session, calls=2)

    assert await repository.expire(10) == []

    assert (await run_row(chat, run))["status"] == "awaiting_approval"
    assert await tool_events(chat, run) == []


async def test_what_was_decided_stays_decided(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository, decisions: ToolDecisions
) -> None:
    run = await waiting_run(chat, ann, session, calls=2)
    await decisions.decide(run.calls[0], ann.id, ToolVerdict.APPROVE)
    await chat.rows("UPDATE chat.tool_executions SET expires_at = now()")

    assert len(await repository.expire(10)) == 1

    assert [(await call_row(chat, call))["status"] for call in run.calls] == ["approved", "rejected"]
    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("queued", 0)


async def test_a_run_that_somebody_answers_is_left_until_it_waits(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository
) -> None:
    run = await waiting_run(chat, ann, session, status="running", expires_in=LATE)
    other = await waiting_run(chat, ann, await chat.session(ann, reply_policy="never"), expires_in=LATE)

    # It takes no place either from those that can be ended.
    assert [one.session_id for one in await repository.expire(1)] == [other.session_id]

    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"], row["expired_at"]) == ("running", 1, None)
    await chat.rows("UPDATE chat.runs SET status = 'awaiting_approval', lease_owner = NULL WHERE id = $1", run.id)
    assert [one.session_id for one in await repository.expire(1)] == [run.session_id]
    assert (await run_row(chat, run))["status"] == "queued"


async def test_deciding_after_it_expired_says_so(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository
) -> None:
    run = await waiting_run(chat, ann, session, expires_in=LATE)
    await repository.expire(10)

    answer = await chat.client.post(f"{API}/tool-executions/{run.calls[0]}/approve", json={}, headers=ann.headers)

    assert problem(answer) == (409, "approval-expired")


async def test_a_session_that_somebody_has_is_left_for_later(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository, clean_database: Database
) -> None:
    held = await waiting_run(chat, ann, session, expires_in=LATE)
    other = await waiting_run(chat, ann, await chat.session(ann, reply_policy="never"), expires_in=LATE)
    answered = await waiting_run(chat, ann, await chat.session(ann, reply_policy="never"), expires_in=LATE)
    connection = await asyncpg.connect(Database.dsn(clean_database.api_url))
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM chat.sessions WHERE id = $1 FOR UPDATE", held.session_id)
            await connection.execute("SELECT 1 FROM chat.runs WHERE id = $1 FOR UPDATE", answered.id)
            async with asyncio.timeout(30):
                expired = await repository.expire(10)
    finally:
        await connection.close()

    assert [one.session_id for one in expired] == [other.session_id]
    assert {one.session_id for one in await repository.expire(10)} == {held.session_id, answered.session_id}


async def test_the_longest_late_come_first_and_no_more_than_asked_for(
    chat: ChatApi, ann: Person, repository: ToolRepository
) -> None:
    runs = [
        await waiting_run(
            chat, ann, await chat.session(ann, reply_policy="never"), expires_in=timedelta(minutes=-minutes)
        )
        for minutes in (1, 3, 2)
    ]

    rounds = [[one.session_id for one in await repository.expire(1)] for _ in range(4)]

    assert rounds == [[runs[1].session_id], [runs[2].session_id], [runs[0].session_id], []]


async def test_several_processes_expire_once(chat: ChatApi, ann: Person, repository: ToolRepository) -> None:
    runs = [
        await waiting_run(chat, ann, await chat.session(ann, reply_policy="never"), calls=2, expires_in=LATE)
        for _ in range(5)
    ]

    rounds = await asyncio.gather(*(repository.expire(10) for _ in range(6)))

    found = [one.session_id for expired in rounds for one in expired]
    assert sorted(found) == sorted(run.session_id for run in runs)
    for run in runs:
        assert await tool_events(chat, run) == [("tool.rejected", call) for call in run.calls]


async def test_a_decision_and_the_expiry_at_once(
    chat: ChatApi, ann: Person, session: Json, repository: ToolRepository, decisions: ToolDecisions
) -> None:
    """Whichever comes first, the call is decided once and the run resumed once."""
    for _ in range(10):
        run = await waiting_run(chat, ann, session, expires_in=timedelta(milliseconds=20))
        events = len(await tool_events(chat, run))
        await asyncio.sleep(0.017)
        await asyncio.gather(
            decisions.decide(run.calls[0], ann.id, ToolVerdict.APPROVE), repository.expire(10), return_exceptions=True
        )
        await asyncio.sleep(0.01)
        await repository.expire(10)

        execution = await call_row(chat, run.calls[0])
        row = await run_row(chat, run)
        assert (row["status"], row["pending_calls"]) == ("queued", 0)
        assert (row["expired_at"] is None) == (execution["status"] == "approved")
        assert (await tool_events(chat, run))[events:] == [(f"tool.{execution['status']}", run.calls[0])]
        await chat.rows("UPDATE chat.runs SET status = 'completed' WHERE id = $1", run.id)
