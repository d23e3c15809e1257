"""Deciding over a socket, and hearing of it: the same as over REST, and all who follow are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.sockets import SocketClient, connected
from tests.factories.tool_calls import ARGUMENTS, call_row, run_row, tool_events, waiting_run


@pytest.fixture
async def socket(chat: ChatApi, ann: Person) -> AsyncIterator[SocketClient]:
    async with connected(chat, ann) as client:
        yield client


async def refused(client: SocketClient, execution_id: UUID, decision: str, **fields: Any) -> Json:
    client.say("tool.decide", execution_id=str(execution_id), decision=decision, **fields)
    error = await client.expect("error")
    assert (error["in_reply_to"]["type"], error["in_reply_to"]["execution_id"]) == ("tool.decide", str(execution_id))
    problem: Json = error["problem"]
    return problem


async def test_a_decision_is_told_to_everybody(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    await chat.join(session, bob)
    run = await waiting_run(chat, ann, session, calls=2)
    async with connected(chat, ann) as hers, connected(chat, bob) as his:
        for client in (hers, his):
            await client.subscribe(session)
        wanted = {"url": "https://example.org/else"}
        hers.say("tool.decide", execution_id=str(run.calls[0]), decision="approve", arguments=wanted)
        approved = await his.expect("tool.approved")
        hers.say("tool.decide", execution_id=str(run.calls[1]), decision="reject", reason="No.")
        rejected = await his.expect("tool.rejected")
        assert await hers.expect("tool.approved") == approved
        assert await hers.expect("tool.rejected") == rejected

    assert rejected["event_seq"] == approved["event_seq"] + 1
    execution = approved["data"]
    assert (execution["id"], execution["decided_by"]) == (str(run.calls[0]), str(ann.id))
    assert (execution["arguments"], execution["model_arguments"]) == (wanted, ARGUMENTS)
    assert (rejected["data"]["id"], rejected["data"]["reason"]) == (str(run.calls[1]), "No.")
    read = await chat.client.get(f"{API}/tool-executions/{run.calls[0]}", headers=ann.headers)
    assert read.json() == execution
    assert (await run_row(chat, run))["status"] == "queued"


async def test_a_decision_over_rest_is_told_on_sockets(
    chat: ChatApi, ann: Person, session: Json, socket: SocketClient
) -> None:
    run = await waiting_run(chat, ann, session)
    await socket.subscribe(session)

    await chat.client.post(f"{API}/tool-executions/{run.calls[0]}/reject", json={}, headers=ann.headers)

    assert (await socket.expect("tool.rejected"))["data"]["status"] == "rejected"


async def test_nobody_need_follow_to_decide(chat: ChatApi, ann: Person, session: Json, socket: SocketClient) -> None:
    run = await waiting_run(chat, ann, session)

    socket.say("tool.decide", execution_id=str(run.calls[0]), decision="approve")
    socket.say("ping")
    await socket.expect("pong")

    assert [frame["type"] for frame in socket.frames] == ["ready", "pong"]
    assert (await call_row(chat, run.calls[0]))["status"] == "approved"


async def test_who_may_not_is_told_so(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    async with connected(chat, bob) as client:
        assert (await refused(client, run.calls[0], "approve"))["code"] == "tool-execution-not-found"
        await chat.join(session, bob)
        problem = await refused(client, run.calls[0], "approve", arguments={"nonsense": 1})
    assert (problem["status"], problem["code"]) == (403, "decision-not-yours")
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"


async def test_a_key_that_only_reads_decides_nothing(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    body = {"name": "reader", "scopes": ["chat:read"]}
    made = await chat.client.post(f"{API}/api-keys", json=body, headers=ann.headers)
    reader = Person(ann.id, ann.username, {"Authorization": f"Bearer {made.json()['key']}"})

    async with connected(chat, reader) as client:
        assert (await refused(client, run.calls[0], "approve"))["code"] == "insufficient-scope"
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"


async def test_a_decision_counts_once(chat: ChatApi, ann: Person, session: Json, socket: SocketClient) -> None:
    run = await waiting_run(chat, ann, session)
    socket.say("tool.decide", execution_id=str(run.calls[0]), decision="approve")

    for decision in ("approve", "reject"):
        assert (await refused(socket, run.calls[0], decision))["code"] == "already-decided"
    assert len(await tool_events(chat, run)) == 1


async def test_two_doors_at_once_let_one_through(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    path = f"{API}/tool-executions/{run.calls[0]}"
    async with connected(chat, ann) as one, connected(chat, ann) as other:
        one.say("tool.decide", execution_id=str(run.calls[0]), decision="approve")
        other.say("tool.decide", execution_id=str(run.calls[0]), decision="reject")
        answers = await asyncio.gather(
            *(chat.client.post(f"{path}/{verdict}", json={}, headers=ann.headers) for verdict in ("approve", "reject"))
        )
        for client in (one, other):
            client.say("ping")
            await client.expect("pong")
        refusals = [
            frame["problem"]["code"] for client in (one, other) for frame in client.frames if "problem" in frame
        ]
    refusals += [answer.json()["code"] for answer in answers if answer.status_code != 200]

    assert refusals == ["already-decided"] * 3
    assert len(await tool_events(chat, run)) == 1


async def test_what_does_not_fit_is_refused(chat: ChatApi, ann: Person, session: Json, socket: SocketClient) -> None:
    run = await waiting_run(chat, ann, session)

    problem = await refused(socket, run.calls[0], "approve", arguments={"url": 7})

    assert (problem["status"], problem["code"]) == (422, "tool-arguments-invalid")
    assert [error["loc"] for error in problem["errors"]] == [["arguments", "url"]]
    for fields in (
        {"decision": "reject", "arguments": ARGUMENTS},
        {"decision": "approve", "reason": "Why not"},
        {"decision": "reject", "reason": "x" * 2_001},
        {"decision": "maybe"},
        {"decision": "approve", "is_admin": True},
        {"decision": "approve", "arguments": []},
    ):
        assert (await refused(socket, run.calls[0], **fields))["code"] == "validation-failed"
    socket.say("tool.decide", execution_id="nonsense", decision="approve")
    assert (await socket.expect("error"))["in_reply_to"] == {
        "type": "tool.decide",
        "session_id": None,
        "client_id": None,
        "run_id": None,
        "execution_id": None,
    }
    assert (await call_row(chat, run.calls[0]))["status"] == "pending_approval"
