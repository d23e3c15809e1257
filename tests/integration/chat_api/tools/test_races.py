"""Decisions at the same moment: one of them counts, and a run goes on once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import asyncpg
import pytest

from chat_api.tools.errors import AlreadyDecided, ApprovalExpired, ToolExecutionNotFound
from chat_api.tools.repository import ToolRepository
from chat_api.tools.service import RunStarter, ToolDecisions
from shared.contracts.tools import ToolVerdict
from shared.problems import ServiceUnavailable
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.tool_calls import ARGUMENTS, call_row, run_row, tool_events, waiting_run
from tests.stores import Database

APPROVE, REJECT = ToolVerdict.APPROVE, ToolVerdict.REJECT


class Starts(Protocol):
    started: list[UUID]


@asynccontextmanager
async def holding(database: Database, session_id: UUID) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else who has the session's row, and commits at the end."""
    connection = await asyncpg.connect(Database.dsn(database.api_url))
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM chat.sessions WHERE id = $1 FOR UPDATE", session_id)
            yield connection
    finally:
        await connection.close()


async def waits(chat: ChatApi, decision: Awaitable[bytes]) -> asyncio.Task[bytes]:
    """The decision, once it stands before the session's row."""
    task = asyncio.ensure_future(decision)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%tool_executions%'"
    async with asyncio.timeout(30):
        while not await chat.rows(f"{waiting} AND pid <> pg_backend_pid() AND datname = current_database()"):
            assert not task.done(), "it did not wait"
            await asyncio.sleep(0.01)
    assert isinstance(task, asyncio.Task)
    return task


async def test_of_twenty_deciders_one_wins(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    call = run.calls[0]
    bodies = [("approve", {}), ("reject", {"reason": "No."}), ("approve", {"arguments": ARGUMENTS | {"times": 2}})]

    answers = await asyncio.gather(
        *(
            chat.client.post(f"{API}/tool-executions/{call}/{verdict}", json=body, headers=ann.headers)
            for verdict, body in (bodies[number % 3] for number in range(20))
        )
    )

    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1, Counter(answer.status_code for answer in answers)
    assert all(problem(answer) == (409, "already-decided") for answer in answers if answer is not won[0])
    row = await call_row(chat, call)
    assert row["status"] == won[0].json()["status"]
    assert (row["arguments"], row["reason"]) == (won[0].json()["arguments"], won[0].json()["reason"])
    waiting = await run_row(chat, run)
    assert (waiting["status"], waiting["pending_calls"]) == ("queued", 0)
    assert await tool_events(chat, run) == [(f"tool.{row['status']}", call)]


@pytest.mark.parametrize("calls", [2, 5])
async def test_the_last_calls_decided_at_once_resume_the_run_once(
    chat: ChatApi, ann: Person, session: Json, decisions: ToolDecisions, starter: Starts, calls: int
) -> None:
    for _ in range(5):
        run = await waiting_run(chat, ann, session, calls=calls)
        starter.started.clear()

        verdicts = [APPROVE, REJECT] * calls
        await asyncio.gather(*(decisions.decide(call, ann.id, verdicts.pop()) for call in run.calls))

        row = await run_row(chat, run)
        assert (row["status"], row["pending_calls"]) == ("queued", 0)
        assert starter.started == [run.session_id]
        await chat.rows("UPDATE chat.runs SET status = 'completed' WHERE id = $1", run.id)
    assert len(await tool_events(chat, run)) == 5 * calls


async def test_a_run_that_paused_while_the_decision_waited_goes_on(
    chat: ChatApi,
    ann: Person,
    session: Json,
    decisions: ToolDecisions,
    starter: Starts,
    clean_database: Database,
) -> None:
    run = await waiting_run(chat, ann, session, status="running")

    async with holding(clean_database, run.session_id) as pausing:
        decision = await waits(chat, decisions.decide(run.calls[0], ann.id, APPROVE))
        paused = await pausing.execute(
            "UPDATE chat.runs SET status = 'awaiting_approval', lease_owner = NULL, lease_expires_at = NULL"
            " WHERE id = $1 AND pending_calls > 0",
            run.id,
        )
        assert paused == "UPDATE 1"
    await decision

    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("queued", 0)
    assert starter.started == [run.session_id]


async def test_a_run_finds_the_decision_that_came_before_its_pause(
    chat: ChatApi, ann: Person, session: Json, decisions: ToolDecisions, starter: Starts
) -> None:
    run = await waiting_run(chat, ann, session, status="running")

    await decisions.decide(run.calls[0], ann.id, APPROVE)

    row = await run_row(chat, run)
    assert (row["status"], row["pending_calls"]) == ("running", 0)
    assert starter.started == []


async def test_whoever_was_removed_while_waiting_decides_nothing(
    chat: ChatApi,
    bob: Person,
    session: Json,
    decisions: ToolDecisions,
    starter: Starts,
    clean_database: Database,
) -> None:
    await chat.join(session, bob)
    run = await waiting_run(chat, bob, session)

    async with holding(clean_database, run.session_id) as removing:
        decision = await waits(chat, decisions.decide(run.calls[0], bob.id, APPROVE))
        await removing.execute("DELETE FROM chat.participants WHERE user_id = $1", bob.id)
        await removing.execute(
            "UPDATE chat.sessions SET membership_version = membership_version + 1 WHERE id = $1", run.session_id
        )
    with pytest.raises(ToolExecutionNotFound):
        await decision

    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"
    assert await tool_events(chat, run) == []
    assert starter.started == []


async def test_who_stays_decides_though_somebody_else_left(
    chat: ChatApi, ann: Person, bob: Person, session: Json, decisions: ToolDecisions, clean_database: Database
) -> None:
    await chat.join(session, bob)
    run = await waiting_run(chat, ann, session)

    async with holding(clean_database, run.session_id) as removing:
        decision = await waits(chat, decisions.decide(run.calls[0], ann.id, APPROVE))
        await removing.execute("DELETE FROM chat.participants WHERE user_id = $1", bob.id)
        await removing.execute(
            "UPDATE chat.sessions SET membership_version = membership_version + 1 WHERE id = $1", run.session_id
        )
    await decision

    assert (await call_row(chat, run.calls[0]))["status"] == "approved"


class AlwaysAnother(ToolRepository):
    """Whenever somebody decides, somebody else has just left."""

    tries = 0

    async def decide(self, *_: object) -> None:
        self.tries += 1


async def test_who_waits_for_ever_is_told_to_try_again(
    chat: ChatApi, ann: Person, session: Json, starter: RunStarter
) -> None:
    run = await waiting_run(chat, ann, session)
    repository = AlwaysAnother(chat.app.state.database, chat.app.state.hints)

    with pytest.raises(ServiceUnavailable):
        await ToolDecisions(repository, starter).decide(run.calls[0], ann.id, APPROVE)

    assert repository.tries == 10


async def test_a_decision_that_waited_past_the_end_is_too_late(
    chat: ChatApi, ann: Person, session: Json, decisions: ToolDecisions, clean_database: Database
) -> None:
    run = await waiting_run(chat, ann, session, expires_in=timedelta(seconds=0.5))

    async with holding(clean_database, run.session_id):
        decision = await waits(chat, decisions.decide(run.calls[0], ann.id, APPROVE))
        await asyncio.sleep(0.6)
    with pytest.raises(ApprovalExpired):
        await decision

    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"


async def test_a_decision_that_waited_for_another_is_refused(
    chat: ChatApi, ann: Person, session: Json, decisions: ToolDecisions, clean_database: Database
) -> None:
    run = await waiting_run(chat, ann, session)

    async with holding(clean_database, run.session_id) as other:
        decision = await waits(chat, decisions.decide(run.calls[0], ann.id, APPROVE, arguments=dict(ARGUMENTS)))
        await other.execute(
            "UPDATE chat.tool_executions SET status = 'rejected', decided_by = $2, decided_at = now() WHERE id = $1",
            run.calls[0],
            ann.id,
        )
    with pytest.raises(AlreadyDecided):
        await decision

    assert (await call_row(chat, run.calls[0]))["status"] == "rejected"
    assert (await run_row(chat, run))["pending_calls"] == 1
