"""Runs that call tools: recorded before anything happens, decided on, run as often as allowed, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.chat import ChatRole
from shared.contracts.tools import ApprovalMode, ToolOutcome
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Event, Json, Person, chat_api, joined_text
from tests.fakes.tool_agent import ToolAgent, Wish, safe
from tests.stores import Database

LEASE: dict[str, Any] = {
    "run_lease_seconds": 0.6,
    "run_heartbeat_seconds": 0.1,
    "run_poll_seconds": 0.1,
    "shutdown_seconds": 0.4,
}


@pytest.fixture
async def two(clean_database: Database, redis_url: str) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    async with (
        chat_api(clean_database.api_url, redis_url, **LEASE) as dying,
        chat_api(clean_database.api_url, redis_url, **LEASE) as living,
    ):
        yield dying, living


async def executions(chat: ChatApi, person: Person, session: Json) -> list[Json]:
    answer = await chat.client.get(f"{API}/sessions/{session['id']}/tool-executions", headers=person.headers)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def decide(chat: ChatApi, person: Person, execution: Json, verdict: str, **body: Any) -> None:
    answer = await chat.client.post(
        f"{API}/tool-executions/{execution['id']}/{verdict}", json=body, headers=person.headers
    )
    assert answer.status_code == 200, answer.text


async def run_waits(chat: ChatApi, person: Person, run_id: str) -> None:
    async with asyncio.timeout(30):
        while (await chat.run(person, run_id))["status"] != "awaiting_approval":
            await asyncio.sleep(0.01)


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


async def session_events(chat: ChatApi, session: Json) -> list[str]:
    rows = await chat.rows(
        "SELECT event_seq, type FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq",
        UUID(session["id"]),
    )
    assert [row["event_seq"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["type"] for row in rows]


async def test_a_safe_tool_runs_by_itself_and_its_answer_is_told(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([safe()], before="Let me look.", answer="It says hello.")
    session = await chat.session(ann)
    events = await chat.stream(ann, session)
    assert types(events) == [
        "message.created",
        "run.started",
        "message.created",
        "message.delta",
        "tool.requested",
        "tool.started",
        "tool.completed",
        "message.delta",
        "message.updated",
        "run.completed",
    ]
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    reply = events[-2].data
    assert reply["content"] == "Let me look.\n\nIt says hello." == joined_text(events)
    assert reply["tools_used"] == ["note"]
    assert reply["usage"]["total_tokens"] == 24
    assert agent.executed == [{"call": "call_0_0", "text": "hello"}]
    assert [message.content for message in agent.told] == ["noted hello"]
    assert chat.agent.requests[0].approval_mode is ApprovalMode.ALWAYS
    [execution] = await executions(chat, ann, session)
    assert (execution["status"], execution["attempts"], execution["result"]) == ("succeeded", 1, "noted hello")
    assert execution["decided_by"] is None
    assert await session_events(chat, session) == [
        "message.created",
        "run.started",
        "message.created",
        "tool.requested",
        "tool.started",
        "tool.completed",
        "message.updated",
        "run.completed",
    ]


async def test_a_risky_tool_waits_and_goes_on_when_it_is_approved(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish()], before="May I?")
    session = await chat.session(ann)
    before = await chat.stream(ann, session)
    assert types(before)[-2:] == ["message.updated", "run.awaiting_approval"]
    assert "tool.approval_required" in types(before)
    assert agent.executed == []
    run_id = before[-1].data["id"]
    assert before[-2].data["status"] == "awaiting_approval"
    assert chat.engine.executor.active_count == 0

    [execution] = await executions(chat, ann, session)
    assert execution["status"] == "pending_approval"
    assert execution["expires_at"] is not None
    await decide(chat, ann, execution, "approve")
    run = await chat.run_ended(ann, run_id)
    assert run["status"] == "completed"
    assert agent.executed == [{"call": "call_0_0", "text": "hello"}]

    after = await chat.events(ann, run_id, after=before[-1].id)
    assert types(after) == [
        "run.started",
        "tool.started",
        "tool.completed",
        "message.delta",
        "message.updated",
        "run.completed",
    ]
    assert [event.id for event in after] == list(range(before[-1].id + 1, before[-1].id + 1 + len(after)))
    assert joined_text(before + after) == "May I?\n\nDone." == after[-2].data["content"]
    assert after[-2].data["status"] == "complete"
    [execution] = await executions(chat, ann, session)
    assert (execution["status"], execution["decided_by"]) == ("succeeded", str(ann.id))
    assert await session_events(chat, session) == [
        "message.created",
        "run.started",
        "message.created",
        "tool.requested",
        "tool.approval_required",
        "message.updated",
        "run.awaiting_approval",
        "tool.approved",
        "run.started",
        "tool.started",
        "tool.completed",
        "message.updated",
        "run.completed",
    ]


async def test_plain_json_answers_when_the_run_waits(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([Wish()], before="May I?")
    said = await chat.said(ann, await chat.session(ann))
    assert said["run"]["status"] == "awaiting_approval"
    assert (said["reply"]["status"], said["reply"]["content"]) == ("awaiting_approval", "May I?")


async def test_who_has_the_waiting_event_is_told_that_there_is_no_more(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([Wish()])
    events = await chat.stream(ann, await chat.session(ann))
    headers = ann.headers | {"Last-Event-ID": str(events[-1].id)}
    answer = await chat.client.get(f"{API}/runs/{events[-1].data['id']}/events", headers=headers)
    assert answer.status_code == 204
    assert await chat.events(ann, events[-1].data["id"], after=1) == events[1:]


async def test_a_rejection_is_told_with_its_reason_and_nothing_runs(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish()])
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    [execution] = await executions(chat, ann, session)
    await decide(chat, ann, execution, "reject", reason="Not on Sundays")
    assert (await chat.run_ended(ann, said["run"]["id"]))["status"] == "completed"
    assert agent.executed == []
    assert "Not on Sundays" in agent.told[0].content
    assert "tool.rejected" in await session_events(chat, session)


async def test_changed_arguments_are_what_runs_and_the_model_hears_of_it(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish()], [safe()])
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    [execution] = await executions(chat, ann, session)
    await decide(chat, ann, execution, "approve", arguments={"text": "goodbye"})
    await chat.run_ended(ann, said["run"]["id"])
    assert agent.executed == [{"call": "call_0_0", "text": "goodbye"}, {"call": "call_1_0", "text": "hello"}]
    assert agent.told[0].content.startswith('A person changed the arguments to {"text":"goodbye"}')
    first, _ = await executions(chat, ann, session)
    assert (first["arguments"], first["model_arguments"]) == ({"text": "goodbye"}, {"text": "hello"})


async def test_several_calls_are_decided_one_by_one_and_safe_ones_do_not_wait(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish("one"), safe("safe"), Wish("two")])
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    assert [done["text"] for done in agent.executed] == ["safe"]
    one, quick, two = await executions(chat, ann, session)
    assert [one["status"], quick["status"], two["status"]] == ["pending_approval", "succeeded", "pending_approval"]
    await decide(chat, ann, two, "reject")
    await asyncio.sleep(0.05)
    assert (await chat.run(ann, said["run"]["id"]))["status"] == "awaiting_approval"
    await decide(chat, ann, one, "approve")
    await chat.run_ended(ann, said["run"]["id"])
    assert [done["text"] for done in agent.executed] == ["safe", "one"]
    assert [message.tool_call_id for message in agent.told] == ["call_0_1", "call_0_2", "call_0_0"]


@pytest.mark.parametrize(
    ("mode", "waits"), [("never", [False, False]), ("risky", [True, False]), ("always", [True, True])]
)
async def test_the_sessions_mode_says_what_waits(chat: ChatApi, ann: Person, mode: str, waits: list[bool]) -> None:
    chat.agent.script = ToolAgent([Wish(), safe()])
    session = await chat.session(ann, approval_mode=mode)
    await chat.said(ann, session)
    found = [execution["status"] == "pending_approval" for execution in await executions(chat, ann, session)]
    assert found == waits


async def test_a_mode_that_changes_while_the_run_goes_on_holds_for_the_next_calls(chat: ChatApi, ann: Person) -> None:
    hold = asyncio.Event()
    agent = chat.agent.script = ToolAgent([safe("first", hold=hold)], [safe("second")])
    session = await chat.session(ann)
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    await asyncio.wait_for(agent.running.wait(), 30)
    changed = await chat.client.put(
        f"{API}/sessions/{session['id']}/approval-mode", json={"approval_mode": "always"}, headers=ann.headers
    )
    assert changed.status_code == 200, changed.text
    hold.set()
    await run_waits(chat, ann, run_id)
    assert [done["text"] for done in agent.executed] == ["first"]


async def test_a_call_that_cannot_be_run_is_on_record_and_nobody_is_asked(chat: ChatApi, ann: Person) -> None:
    problem = ProblemDocument(title="No tool", status=404, detail="There is no such tool.", code="tool-not-found")
    agent = chat.agent.script = ToolAgent([Wish(problem=problem), safe()])
    session = await chat.session(ann, approval_mode="always")
    await chat.said(ann, session)
    first, second = await executions(chat, ann, session)
    assert (first["status"], first["error"]["code"]) == ("failed", "tool-not-found")
    assert second["status"] == "pending_approval"
    assert agent.executed == []


async def test_a_tool_that_fails_is_told_and_the_run_goes_on(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([safe(outcome=ToolOutcome.TIMED_OUT)])
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    assert said["run"]["status"] == "completed"
    [execution] = await executions(chat, ann, session)
    assert (execution["status"], execution["error"]["code"]) == ("timed_out", "tool-failed")


async def test_an_agent_that_dies_with_a_tool_is_asked_again_only_where_that_is_safe(
    chat: ChatApi, ann: Person
) -> None:
    agent = chat.agent.script = ToolAgent([safe("again", breaks=1), Wish("once", breaks=1)])
    session = await chat.session(ann, approval_mode="never")
    said = await chat.said(ann, session)
    assert said["run"]["status"] == "completed", said["run"]
    again, once = await executions(chat, ann, session)
    assert (again["status"], again["attempts"]) == ("succeeded", 2)
    # The connection broke with the first of the two: of the other nobody knows whether it was begun.
    assert (once["status"], once["error"]["code"]) == ("failed", "tool-outcome-unknown")
    assert [done["text"] for done in agent.executed] == ["again", "again"]
    assert any("may have done its work" in message.content for message in agent.told)


async def test_an_agent_that_says_nothing_of_a_call_is_not_told_to_run_it_again(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish(mute=True)])
    session = await chat.session(ann, approval_mode="never")
    said = await chat.said(ann, session)
    assert said["run"]["status"] == "completed"
    assert len(agent.executed) == 1
    [execution] = await executions(chat, ann, session)
    assert (execution["status"], execution["error"]["code"]) == ("failed", "tool-outcome-unknown")


async def test_cancelling_a_run_that_waits_ends_it_at_once(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish()], before="May I?")
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    run_id = said["run"]["id"]
    answer = await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=ann.headers)
    assert answer.status_code == 200
    assert (await chat.run_ended(ann, run_id))["status"] == "cancelled"
    [execution] = await executions(chat, ann, session)
    assert execution["status"] == "rejected"
    assert agent.executed == []
    reply = (await chat.history(ann, session))[1]
    assert (reply["status"], reply["content"]) == ("cancelled", "May I?")
    late = await chat.client.post(f"{API}/tool-executions/{execution['id']}/approve", json={}, headers=ann.headers)
    assert (late.status_code, late.json()["code"]) == (409, "already-decided")
    assert (await session_events(chat, session))[-3:] == ["tool.rejected", "message.updated", "run.cancelled"]


async def test_cancelling_while_a_tool_runs_says_that_nobody_knows_its_end(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([Wish(hold=asyncio.Event())])
    session = await chat.session(ann, approval_mode="never")
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    await asyncio.wait_for(agent.running.wait(), 30)
    await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=ann.headers)
    assert (await chat.run_ended(ann, run_id))["status"] == "cancelled"
    [execution] = await executions(chat, ann, session)
    assert (execution["status"], execution["error"]["code"]) == ("failed", "tool-outcome-unknown")


async def test_messages_queue_behind_a_run_that_waits(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([Wish()])
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    behind = await chat.send_async(ann, session, "And this?")
    assert behind["run"]["status"] == "queued"
    [execution] = await executions(chat, ann, session)
    await decide(chat, ann, execution, "approve")
    assert (await chat.run_ended(ann, said["run"]["id"]))["status"] == "completed"
    await run_waits(chat, ann, behind["run"]["id"])


async def test_what_nobody_decides_on_expires_and_the_run_ends_politely(
    clean_database: Database, redis_url: str
) -> None:
    async with chat_api(clean_database.api_url, redis_url, approval_seconds=0.2, **LEASE) as chat:
        ann = await chat.person()
        agent = chat.agent.script = ToolAgent([Wish(), Wish("two")], before="May I?")
        session = await chat.session(ann)
        said = await chat.said(ann, session)
        run = await chat.run_ended(ann, said["run"]["id"])
        assert (run["status"], run["error"]["code"]) == ("failed", "approval-expired")
        found = await executions(chat, ann, session)
        assert [execution["status"] for execution in found] == ["rejected", "rejected"]
        assert agent.executed == []
        reply = (await chat.history(ann, session))[1]
        assert (reply["status"], reply["content"]) == ("failed", "May I?")
        late = await chat.client.post(f"{API}/tool-executions/{found[0]['id']}/approve", headers=ann.headers)
        assert late.status_code == 409


async def test_a_run_that_waits_outlives_its_process_and_its_stream(two: tuple[ChatApi, ChatApi]) -> None:
    asking, deciding = two
    ann = await asking.person()
    asking.agent.script = ToolAgent([Wish()], before="May I?")
    agent = deciding.agent.script = ToolAgent([Wish()], before="May I?")
    session = await asking.session(ann)
    before = await asking.stream(ann, session)
    run_id = before[-1].data["id"]
    await asking.engine.recovery.stop()
    await asking.has_left(run_id)
    await asking.engine.streams._log._writer.delete(f"colloquy:run:{UUID(run_id).hex}")  # type: ignore[attr-defined]  # as after days
    [execution] = await executions(deciding, ann, session)
    await decide(deciding, ann, execution, "approve")
    assert (await deciding.run_ended(ann, run_id))["status"] == "completed"
    assert agent.executed == [{"call": "call_0_0", "text": "hello"}]
    after = await deciding.events(ann, run_id, after=before[-1].id)
    assert after[0].id == before[-1].id + 1
    assert joined_text(before + after) == "May I?\n\nDone."


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_process_that_dies_while_a_tool_runs(two: tuple[ChatApi, ChatApi], repeatable: bool) -> None:
    dying, living = two
    ann = await dying.person()
    lost = dying.agent.script = ToolAgent([Wish(repeatable=repeatable, hold=asyncio.Event())], before="I do.")
    agent = living.agent.script = ToolAgent([Wish(repeatable=repeatable)])
    session = await dying.session(ann, approval_mode="never")
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await asyncio.wait_for(lost.running.wait(), 30)
    await dying.engine.recovery.stop()  # as if it were frozen
    run = await living.run_ended(ann, run_id)
    assert run["status"] == "completed", run
    [execution] = await executions(living, ann, session)
    if repeatable:
        assert (execution["status"], execution["attempts"], len(agent.executed)) == ("succeeded", 2, 1)
    else:
        assert (execution["status"], execution["error"]["code"]) == ("failed", "tool-outcome-unknown")
        assert agent.executed == []
    assert (await living.history(ann, session))[1]["content"] == "I do.\n\nDone."
    events = await living.events(ann, run_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))


async def test_many_approvals_are_no_failures(two: tuple[ChatApi, ChatApi]) -> None:
    chat, other = two
    # Whoever hears first that a run may go on answers it, and this one's agent has no script.
    await other.engine.recovery.stop()
    ann = await chat.person()
    agent = chat.agent.script = ToolAgent(*([Wish(str(number))] for number in range(6)))
    session = await chat.session(ann)
    run_id = (await chat.said(ann, session))["run"]["id"]
    for number in range(6):
        await run_waits(chat, ann, run_id)
        waiting = [one for one in await executions(chat, ann, session) if one["status"] == "pending_approval"]
        assert [one["arguments"]["text"] for one in waiting] == [str(number)]
        await decide(chat, ann, waiting[0], "approve")
    assert (await chat.run_ended(ann, run_id))["status"] == "completed"
    assert [done["text"] for done in agent.executed] == [str(number) for number in range(6)]
    assert len(chat.agent.requests[-1].messages) == 1 + 2 * 6 - 1
    assert [message.role for message in chat.agent.requests[-1].messages[1:3]] == [ChatRole.ASSISTANT, ChatRole.TOOL]


async def test_what_no_log_may_show_is_forgotten_with_the_run(chat: ChatApi, ann: Person) -> None:
    agent = chat.agent.script = ToolAgent([safe(extra={"token": "s3cret"}, redacted=["token"], redact_result=True)])
    session = await chat.session(ann)
    await chat.said(ann, session)
    assert agent.executed == [{"call": "call_0_0", "text": "hello", "token": "s3cret"}]
    [row] = await chat.rows("SELECT arguments, result FROM chat.tool_executions")
    assert row["arguments"] == {"text": "hello", "token": "[redacted]"}
    assert row["result"] == "[redacted]"


async def test_a_deleted_reply_keeps_no_word_of_its_tools(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = ToolAgent([safe("my secret"), safe("other", outcome=ToolOutcome.FAILED)])
    session = await chat.session(ann)
    reply = (await chat.said(ann, session))["reply"]
    deleted = await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{reply['id']}", headers=ann.headers)
    assert deleted.status_code == 204
    found = await executions(chat, ann, session)
    assert [(one["tool_name"], one["status"]) for one in found] == [("note", "succeeded"), ("note", "failed")]
    assert [(one["arguments"], one["result"]) for one in found] == [({}, None), ({}, None)]
    assert found[1]["error"]["detail"] == "The reply was deleted."
