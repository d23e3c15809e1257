"""Runs that are stopped, late or left without an answer at the very moment that their calls are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from chat_api.kit.models import new_id
from chat_api.runs.prices import PriceTable
from chat_api.runs.repository import Holder, Lease
from chat_api.runs.tool_rounds import ToolRounds
from chat_api.tools.models import ToolStatus
from chat_api.tools.repository import ToolRepository
from shared.contracts.chat import ChatEvent, ChatRequest
from shared.contracts.tools import ToolCall, ToolCallEvent, ToolOutcome, ToolResultEvent, ToolRisk
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.fakes.tool_agent import SCHEMA, ToolAgent, Wish, safe
from tests.stores import Database

QUICK: dict[str, Any] = {"run_heartbeat_seconds": 0.1, "run_poll_seconds": 0.1, "shutdown_seconds": 0.4}


@asynccontextmanager
async def holding(database: Database, session: Json) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else who has the session's row, and commits at the end."""
    connection = await asyncpg.connect(Database.dsn(database.api_url))
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM chat.sessions WHERE id = $1 FOR UPDATE", UUID(session["id"]))
            yield connection
    finally:
        await connection.close()


async def stands_in_line(chat: ChatApi, statement: str) -> None:
    """Return once a statement with this near its beginning waits for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
    async with asyncio.timeout(30):
        while not await chat.rows(f"{waiting} AND datname = current_database()", f"%{statement}%"):
            await asyncio.sleep(0.01)


async def executions(chat: ChatApi) -> list[Any]:
    return await chat.rows("SELECT * FROM chat.tool_executions ORDER BY round, position")


async def tool_events(chat: ChatApi) -> list[str]:
    rows = await chat.rows("SELECT event_seq, type FROM chat.session_events ORDER BY event_seq")
    assert [row["event_seq"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["type"] for row in rows if row["type"].startswith("tool.")]


async def run_waits(chat: ChatApi, person: Person, run_id: str) -> None:
    async with asyncio.timeout(30):
        while (await chat.run(person, run_id))["status"] != "awaiting_approval":
            await asyncio.sleep(0.01)


class HeldAgent(ToolAgent):
    """Says nothing before it is let."""

    def __init__(self, *rounds: Sequence[Wish], **more: Any) -> None:
        super().__init__(*rounds, **more)
        self.may_speak = asyncio.Event()

    async def __call__(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        await self.may_speak.wait()
        async for event in super().__call__(request):
            yield event


@pytest.mark.parametrize("mode", ["never", "risky"])
async def test_a_run_that_times_out_while_its_calls_are_stored_leaves_none_open(
    clean_database: Database, redis_url: str, mode: str
) -> None:
    async with chat_api(clean_database.api_url, redis_url, run_timeout_seconds=0.3, **QUICK) as chat:
        ann = await chat.person()
        agent = chat.agent.script = HeldAgent([Wish()], before="May I?")
        session = await chat.session(ann, approval_mode=mode)
        run_id = (await chat.send_async(ann, session))["run"]["id"]
        async with holding(clean_database, session):
            agent.may_speak.set()
            await stands_in_line(chat, "INSERT INTO chat.tool_executions")
            await asyncio.sleep(0.4)
        run = await chat.run_ended(ann, run_id)
        assert (run["status"], run["error"]["code"]) == ("failed", "run-timed-out")
        [execution] = await executions(chat)
        assert execution["status"] == ("failed" if mode == "never" else "rejected")
        assert agent.executed == []


@pytest.mark.parametrize("verdict", ["approve", "reject"])
async def test_a_decision_just_before_the_run_ends_is_told_once(
    clean_database: Database, redis_url: str, verdict: str
) -> None:
    async with chat_api(clean_database.api_url, redis_url, run_timeout_seconds=0.5, **QUICK) as chat:
        ann = await chat.person()
        agent = chat.agent.script = ToolAgent([Wish(), safe(hold=asyncio.Event())])
        session = await chat.session(ann)
        run_id = (await chat.send_async(ann, session))["run"]["id"]
        await asyncio.wait_for(agent.running.wait(), 30)
        asked, _ = await executions(chat)
        async with holding(clean_database, session):
            decision = asyncio.create_task(
                chat.client.post(f"{API}/tool-executions/{asked['id']}/{verdict}", headers=ann.headers)
            )
            await stands_in_line(chat, "WITH seen AS")
            await stands_in_line(chat, "status = $5, error")
        assert (await decision).status_code == 200
        assert (await chat.run_ended(ann, run_id))["status"] == "failed"
        assert [row["status"] for row in await executions(chat)] == ["rejected", "failed"]
        told = ["tool.approved", "tool.rejected"] if verdict == "approve" else ["tool.rejected"]
        assert (await tool_events(chat))[4:] == [*told, "tool.failed"]


async def test_what_is_late_while_its_run_goes_on_ends_the_run_when_it_waits(
    clean_database: Database, redis_url: str
) -> None:
    async with chat_api(clean_database.api_url, redis_url, approval_seconds=0.2, **QUICK) as chat:
        ann = await chat.person()
        hold = asyncio.Event()
        agent = chat.agent.script = ToolAgent([Wish("asked"), safe("runs", hold=hold)], [Wish("next")])
        session = await chat.session(ann)
        run_id = (await chat.send_async(ann, session))["run"]["id"]
        await asyncio.wait_for(agent.running.wait(), 30)
        await asyncio.sleep(0.5)
        asked, _ = await executions(chat)
        assert asked["status"] == "pending_approval"
        late = await chat.client.post(f"{API}/tool-executions/{asked['id']}/approve", headers=ann.headers)
        assert problem(late) == (409, "approval-expired")
        hold.set()
        run = await chat.run_ended(ann, run_id)
        assert (run["status"], run["error"]["code"]) == ("failed", "approval-expired")
        assert [row["status"] for row in await executions(chat)] == ["rejected", "succeeded"]
        assert [done["text"] for done in agent.executed] == ["runs"]


async def lease_of(chat: ChatApi, run_id: str) -> Lease:
    [row] = await chat.rows("SELECT session_id, id, attempt, lease_owner FROM chat.runs WHERE id = $1", UUID(run_id))
    return Lease(row["session_id"], row["id"], row["attempt"], row["lease_owner"])


@pytest.fixture
async def held(chat: ChatApi, ann: Person) -> Lease:
    """The lease of a run whose agent says nothing yet."""
    chat.agent.script = HeldAgent()
    sent = await chat.send_async(ann, await chat.session(ann))
    return await lease_of(chat, sent["run"]["id"])


def wanted(index: int, risk: ToolRisk) -> ToolCallEvent:
    return ToolCallEvent(
        call=ToolCall(id=f"call_{index}", name="note", arguments={"text": "hello"}),
        source="mcp:desk",
        risk=risk,
        repeatable=False,
        parameters=SCHEMA,
        index=index,
        count=2,
    )


async def test_what_is_stored_twice_because_an_answer_was_lost_changes_nothing_and_is_told(
    chat: ChatApi, held: Lease
) -> None:
    database, hints = chat.app.state.database, chat.app.state.hints
    rounds = ToolRounds(database, hints, PriceTable({}), attempts=3, approval_seconds=60)
    calls = [wanted(0, ToolRisk.SAFE), wanted(1, ToolRisk.RISKY)]

    first = await rounds.record(held, 1, calls, content="", stream_position=7)
    assert first is not None
    assert [change.event for change in first] == ["tool.started", "tool.approval_required"]
    assert await rounds.record(held, 1, calls, content="", stream_position=7) == first
    # A number that the model gave before is no answer that was lost.
    assert await rounds.record(held, 2, calls, content="", stream_position=7) is None

    result = ToolResultEvent(
        call_id="call_0", outcome=ToolOutcome.SUCCEEDED, content="noted", attempts=1, duration_ms=3
    )
    stored = await rounds.store_result(held, result)
    assert stored is not None
    assert stored.event == "tool.completed"
    assert await rounds.store_result(held, result) == stored
    assert await rounds.store_result(held, result.model_copy(update={"call_id": "call_1"})) is None
    assert await rounds.store_result(replace(held, attempt=held.attempt + 1), result) is None
    assert await tool_events(chat) == [
        "tool.requested",
        "tool.started",
        "tool.requested",
        "tool.approval_required",
        "tool.completed",
    ]


async def test_a_reply_whose_run_waits_is_not_deleted_under_it(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([Wish()], before="May I?")
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    path = f"{API}/sessions/{session['id']}/messages/{said['reply']['id']}"
    assert problem(await chat.client.delete(path, headers=ann.headers)) == (409, "message-streaming")
    await chat.client.post(f"{API}/runs/{said['run']['id']}/cancel", headers=ann.headers)
    await chat.run_ended(ann, said["run"]["id"])
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204


async def test_who_approves_and_dies_is_followed_by_one_that_begins_as_promised(
    clean_database: Database, redis_url: str
) -> None:
    lease = {**QUICK, "run_lease_seconds": 0.6}
    async with chat_api(clean_database.api_url, redis_url, **lease) as dying:
        ann = await dying.person()
        dying.agent.script = ToolAgent([Wish()], before="May I?")
        before = await dying.stream(ann, await dying.session(ann))
        run_id = before[-1].data["id"]
        await dying.engine.recovery.stop()
        await dying.has_left(run_id)
        [execution] = await executions(dying)
        decisions = ToolRepository(dying.app.state.database, dying.app.state.hints)
        assert await decisions.decide(execution["id"], ann.id, ToolStatus.APPROVED, None, None)
        claim = await dying.engine.repository.claim(execution["session_id"], Holder("dead", 0.2), new_id())
        assert claim is not None
        async with chat_api(clean_database.api_url, redis_url, **lease) as living:
            agent = living.agent.script = ToolAgent([Wish()])
            assert (await living.run_ended(ann, run_id))["status"] == "completed"
            assert agent.executed == [{"call": "call_0_0", "text": "hello"}]
            after = await living.events(ann, run_id, after=before[-1].id)
    assert [event.type for event in after[:3]] == ["run.started", "tool.started", "tool.completed"]
    assert [event.id for event in before + after] == list(range(1, len(before) + len(after) + 1))


@pytest.mark.parametrize("gone", ["question", "bot"])
async def test_what_is_approved_after_its_question_or_bot_is_gone_is_not_run(
    chat: ChatApi, ann: Person, gone: str
) -> None:
    agent = chat.agent.script = ToolAgent([Wish()], before="May I?")
    bot = await chat.bot(ann)
    session = await chat.session(ann, bot_id=bot["id"])
    said = await chat.said(ann, session)
    question = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"
    path = question if gone == "question" else f"{API}/bots/{bot['id']}"
    assert (await chat.client.delete(path, headers=ann.headers)).status_code in (202, 204)
    [execution] = await executions(chat)
    approved = await chat.client.post(f"{API}/tool-executions/{execution['id']}/approve", headers=ann.headers)
    assert approved.status_code == 200
    run = await chat.run_ended(ann, said["run"]["id"])
    assert (run["status"], run["error"]["code"]) == (
        "failed",
        "question-deleted" if gone == "question" else "bot-unavailable",
    )
    [execution] = await executions(chat)
    assert (execution["status"], execution["reason"]) == ("rejected", "The run ended before it was run.")
    assert agent.executed == []


async def test_a_question_of_somebody_who_left_may_still_be_decided_by_the_owner(
    chat: ChatApi, ann: Person, bob: Person
) -> None:
    agent = chat.agent.script = ToolAgent([Wish()])
    session = await chat.session(ann, reply_policy="always")
    await chat.join(session, bob)
    said = await chat.said(bob, session)
    left = f"{API}/sessions/{session['id']}/participants/{bob.id}"
    assert (await chat.client.delete(left, headers=bob.headers)).status_code == 204
    [execution] = await executions(chat)
    path = f"{API}/tool-executions/{execution['id']}/approve"
    assert problem(await chat.client.post(path, headers=bob.headers)) == (404, "tool-execution-not-found")
    assert (await chat.client.post(path, headers=ann.headers)).status_code == 200
    assert (await chat.run_ended(ann, said["run"]["id"]))["status"] == "completed"
    assert len(agent.executed) == 1
