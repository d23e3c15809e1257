"""What PostgreSQL builds as JSON is what the models declare: the same fields, types and formats.

Hot paths hand PostgreSQL's bytes on unread, so nothing else would notice a field that was left out.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from chat_api.kit.models import new_id
from chat_api.messages.schemas import MessageRead, MessageWindow
from chat_api.runs.schemas import (
    RUN_EXAMPLE,
    Accepted,
    Exchanged,
    MessageCitations,
    MessageDelta,
    RunRead,
    SessionActivity,
)
from chat_api.tools.schemas import ToolExecutionPage, ToolExecutionRead
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import ToolOutcome
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Person, chat_api, parse_events
from tests.factories.tool_calls import tool_call
from tests.fakes.agent import Gate, citing, failing
from tests.fakes.tool_agent import ToolAgent, Wish, safe
from tests.stores import Database

Json = dict[str, Any]

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
EVENT_MODELS: dict[str, type[BaseModel]] = {
    "message.created": MessageRead,
    "message.updated": MessageRead,
    "message.delta": MessageDelta,
    "message.citations": MessageCitations,
    "run.started": RunRead,
    "run.completed": RunRead,
    "run.failed": RunRead,
    "run.cancelled": RunRead,
    "run.awaiting_approval": RunRead,
    "tool.requested": ToolExecutionRead,
    "tool.approval_required": ToolExecutionRead,
    "tool.started": ToolExecutionRead,
    "tool.completed": ToolExecutionRead,
    "tool.failed": ToolExecutionRead,
}


@pytest.fixture
async def chat(clean_database: Database, redis_url: str) -> AsyncIterator[ChatApi]:
    async with chat_api(clean_database.api_url, redis_url) as chat:
        yield chat


@pytest.fixture
async def ann(chat: ChatApi) -> Person:
    return await chat.person("ann")


def assert_is(model: type[BaseModel], body: bytes | str) -> Json:
    """The document holds what the model declares, all of it and nothing else, as the model would write it."""
    raw: Json = json.loads(body)
    parsed = model.model_validate_json(body, strict=True)
    assert _without_optional(json.loads(parsed.model_dump_json())) == _without_optional(raw)
    for name, moment in _fields(raw):
        if name.endswith("_at") and moment is not None:
            assert TIMESTAMP.fullmatch(moment), f"{name}: {moment}"
    return raw


def _without_optional(document: Any) -> Any:
    """Fields of a problem are left out where they are empty; everything else is always there."""
    if isinstance(document, list):
        return [_without_optional(item) for item in document]
    if not isinstance(document, dict):
        return document
    is_problem = {"title", "status", "detail", "code"} <= set(document)
    return {
        name: _without_optional(value)
        for name, value in document.items()
        if not (is_problem and name in ("errors", "request_id") and value is None)
    }


def _fields(document: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name, value
            if name != "metadata":
                yield from _fields(value)
    elif isinstance(document, list):
        for item in document:
            yield from _fields(item)


async def read(chat: ChatApi, person: Person, path: str, **query: Any) -> bytes:
    answer = await chat.client.get(f"{API}{path}", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.content


async def test_an_exchange(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    metadata = {"a": [1, 2.5, None, True, "ü \u2028 🙂"], "b": {"c": {}}, "e": 1e15, "created_at": "soon"}

    answer = await chat.send(ann, session, 'Ünï "quoted" \\ \n\t🙂', client_id="c-1", metadata=metadata)

    exchanged = assert_is(Exchanged, answer.content)
    assert exchanged["message"]["metadata"] == metadata
    assert exchanged["message"]["client_id"] == "c-1"
    assert exchanged["message"]["sender"] == {"id": str(ann.id), "username": "ann"}
    assert exchanged["reply"]["sender"] is None
    assert exchanged["reply"]["usage"] == exchanged["run"]["usage"]
    for part, model in (("message", MessageRead), ("reply", MessageRead)):
        path = f"/sessions/{session['id']}/messages/{exchanged[part]['id']}"
        assert assert_is(model, await read(chat, ann, path)) == exchanged[part]
    assert assert_is(RunRead, await read(chat, ann, f"/runs/{exchanged['run']['id']}")) == exchanged["run"]


async def test_where_no_reply_is_due(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")

    exchanged = assert_is(Exchanged, (await chat.send(ann, session)).content)
    accepted = assert_is(Accepted, (await chat.send(ann, session, headers={"Prefer": "respond-async"})).content)

    assert exchanged["run"] is None
    assert exchanged["reply"] is None
    assert accepted["run"] is None


async def test_a_run_from_its_first_word_to_its_cancellation(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, provider="local", model="a-model")
    gate = Gate()
    chat.agent.script = gate

    sent = await chat.send(ann, session, headers={"Prefer": "respond-async"})
    accepted = assert_is(Accepted, sent.content)
    await gate.arrival()
    waiting = assert_is(Accepted, (await chat.send(ann, session, headers={"Prefer": "respond-async"})).content)

    assert waiting["run"]["status"] == "queued"
    activity = assert_is(SessionActivity, await read(chat, ann, f"/sessions/{session['id']}/status"))
    assert activity["active_run"]["status"] == "running"
    assert activity["queued_runs"] == 1
    window = assert_is(MessageWindow, await read(chat, ann, f"/sessions/{session['id']}/messages"))
    assert [item["status"] for item in window["items"]] == ["complete", "streaming", "complete"]
    for run in (waiting["run"]["id"], accepted["run"]["id"]):
        answer = await chat.client.post(f"{API}/runs/{run}/cancel", headers=ann.headers)
        assert answer.status_code == 200, answer.text
        assert_is(RunRead, answer.content)
        await chat.run_ended(ann, run)
    cancelled = assert_is(RunRead, await read(chat, ann, f"/runs/{accepted['run']['id']}"))
    assert cancelled["status"] == "cancelled"
    assert_is(MessageWindow, await read(chat, ann, f"/sessions/{session['id']}/messages"))


async def test_a_run_that_failed(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    chat.agent.script = failing(
        ProblemDocument(title="Ünavailable", status=503, detail='Try "again".', code="model-unavailable"), "So far"
    )

    exchanged = assert_is(Exchanged, (await chat.send(ann, session)).content)

    assert exchanged["run"]["status"] == "failed"
    assert exchanged["run"]["error"]["code"] == "model-unavailable"
    assert exchanged["reply"]["error"] == exchanged["run"]["error"]
    assert exchanged["reply"]["content"] == "So far"


async def test_edits_and_tombstones(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"

    edited = await chat.client.patch(path, json={"content": "Ëdited"}, headers=ann.headers)
    assert edited.status_code == 200, edited.text
    assert assert_is(MessageRead, edited.content)["edited_at"] is not None
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204

    tombstone = assert_is(MessageRead, (await chat.client.get(path, headers=ann.headers)).content)
    assert tombstone["deleted_at"] is not None
    assert tombstone["content"] == ""


async def test_every_column_that_may_be_filled(chat: ChatApi, ann: Person) -> None:
    """What no route of today writes is in the document all the same."""
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    citation = {
        "index": 1, "document_id": str(new_id()), "document_name": "A", "chunk_id": str(new_id()), "page": None,
        "score": 0.5, "snippet": "…",
    }  # fmt: skip
    await chat.rows(
        "UPDATE chat.messages SET cost = 0.000012345, citations = $2::jsonb, tools_used = '{calculator,\"a b\"}',"
        " created_at = '2026-01-31 09:30:00Z' WHERE session_id = $1",
        UUID(session["id"]),
        [citation],
    )

    window = assert_is(MessageWindow, await read(chat, ann, f"/sessions/{session['id']}/messages"))

    for item in window["items"]:
        assert item["cost"] == 0.000012345
        assert item["citations"] == [citation]
        assert item["tools_used"] == ["calculator", "a b"]
        assert item["created_at"] == "2026-01-31T09:30:00.000000Z"
    assert [item["id"] for item in window["items"]] == [said["message"]["id"], said["reply"]["id"]]


async def test_windows_in_both_directions(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    path = f"/sessions/{session['id']}/messages"
    assert assert_is(MessageWindow, await read(chat, ann, path)) == {"items": [], "next_cursor": None}
    for number in range(5):
        await chat.said(ann, session, f"Message {number}")

    for query in ({}, {"before_seq": 4}, {"after_seq": 1}, {"after_seq": 0, "limit": 2}):
        window = assert_is(MessageWindow, await read(chat, ann, path, **query))
        seqs = [item["seq"] for item in window["items"]]
        assert seqs == sorted(seqs)
    assert window["next_cursor"] is not None
    rest = assert_is(MessageWindow, await read(chat, ann, path, cursor=window["next_cursor"]))
    assert [item["seq"] for item in rest["items"]] == [3, 4, 5]


async def test_executions_of_tools(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    run_id = UUID((await chat.said(ann, session))["run"]["id"])
    path = f"/sessions/{session['id']}/tool-executions"
    assert assert_is(ToolExecutionPage, await read(chat, ann, path)) == {"items": [], "next_cursor": None}
    waiting = await tool_call(chat, UUID(session["id"]), run_id)
    failed = ProblemDocument(title="T", status=504, detail="D", code="tool-timed-out").model_dump(exclude_none=True)
    await tool_call(chat, UUID(session["id"]), run_id, position=1, status="timed_out", error=failed, result="D")

    decided = await chat.client.post(f"{API}/tool-executions/{waiting}/approve", headers=ann.headers)
    page = assert_is(ToolExecutionPage, await read(chat, ann, path, limit=1))

    assert page["items"] == [assert_is(ToolExecutionRead, decided.text)]
    assert assert_is(ToolExecutionRead, await read(chat, ann, f"/tool-executions/{waiting}")) == page["items"][0]
    rest = assert_is(ToolExecutionPage, await read(chat, ann, path, cursor=page["next_cursor"]))
    assert [item["status"] for item in rest["items"]] == ["timed_out"]


async def test_the_events_of_a_stream(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    answer = await chat.send(ann, session, headers={"Accept": "text/event-stream"})
    said = parse_events(answer.content)
    problem = ProblemDocument(title="T", status=502, detail="D", code="model-rejected")
    chat.agent.script = failing(problem, "So")
    failed = parse_events((await chat.send(ann, session, headers={"Accept": "text/event-stream"})).content)
    run_id = said[-1].data["id"]
    resumed = await chat.events(ann, run_id, after=len(said) - 2)
    bot = await chat.bot(ann)
    cited = CitationData(
        index=1,
        document_id=await chat.document_row(bot),
        document_name="Ü",
        chunk_id=new_id(),
        page=None,
        score=1,
        snippet="…",
    )
    chat.agent.script = citing(cited)
    grounded = await chat.stream(ann, await chat.session(ann, bot_id=bot["id"]))

    chat.agent.script = ToolAgent([Wish(), safe(), safe(outcome=ToolOutcome.FAILED)])
    waiting = await chat.stream(ann, session)

    for event in (*said, *failed, *resumed, *grounded, *waiting):
        assert_is(EVENT_MODELS[event.type], json.dumps(event.data))
    seen = {event.type for event in (*said, *failed, *grounded, *waiting)}
    assert seen == set(EVENT_MODELS) - {"run.cancelled"}
    assert grounded[-2].data["citations"] == [cited.model_dump(mode="json")]


async def test_the_snapshot_of_a_run_whose_stream_is_gone(clean_database: Database) -> None:
    async with chat_api(clean_database.api_url, None) as chat:
        ann = await chat.person("ann")
        run_id = (await chat.said(ann, await chat.session(ann)))["run"]["id"]
    async with chat_api(clean_database.api_url, None) as another_process:
        async with asyncio.timeout(30):
            events = await another_process.events(ann, run_id)

    assert [event.type for event in events] == ["message.created", "message.updated", "run.completed"]
    for event in events:
        assert_is(EVENT_MODELS[event.type], json.dumps(event.data))


def test_the_check_sees_what_is_missing_and_what_is_too_much() -> None:
    whole = RUN_EXAMPLE
    assert_is(RunRead, json.dumps(whole))

    for broken in (
        {name: value for name, value in whole.items() if name != "usage"},
        {**whole, "lease_owner": "x"},
        {**whole, "created_at": "2026-01-31T09:30:00Z"},
        {**whole, "created_at": "2026-01-31T09:30:00.000000+00:00"},
        {**whole, "id": whole["id"].upper()},
        {**whole, "usage": {**whole["usage"], "total_tokens": "42"}},
    ):
        with pytest.raises((AssertionError, ValueError)):
            assert_is(RunRead, json.dumps(broken))
