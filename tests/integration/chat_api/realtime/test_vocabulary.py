"""What PostgreSQL builds is what the document of the events says."""

from __future__ import annotations

import asyncio
from uuid import UUID

import orjson

from chat_api.realtime.events import DatabaseEvents
from chat_api.realtime.vocabulary import DURABLE
from chat_api.sessions.models import EventType
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.tool_calls import ARGUMENTS, tool_call
from tests.fakes.agent import Gate, breaking_off

TOOLS = {kind for kind in EventType if kind.startswith("tool.")}
TOLD_ELSEWHERE = TOOLS | {EventType.RUN_FAILED, EventType.RUN_CANCELLED, EventType.RUN_AWAITING_APPROVAL}
MODELS = {event.kind: event.frame for event in DURABLE}


async def frames_of(chat: ChatApi, session: Json) -> list[Json]:
    """Every durable event, each held to the model of its type."""
    events = await DatabaseEvents(chat.app.state.database).after(UUID(session["id"]), 0, 1000)
    for event in events:
        text = event.message["text"]
        read = MODELS[orjson.loads(text)["type"]].model_validate_json(text)
        assert orjson.loads(read.model_dump_json(exclude_unset=True)) == orjson.loads(text)
    return [orjson.loads(event.message["text"]) for event in events]


async def call(chat: ChatApi, person: Person, method: str, path: str, body: Json | None = None) -> Json:
    answer = await chat.client.request(method, f"{API}{path}", json=body, headers=person.headers)
    assert answer.status_code < 300, answer.text
    parsed: Json = answer.json() if answer.content else {}
    return parsed


async def test_everything_that_can_happen_is_as_documented(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    path = f"/sessions/{session['id']}"
    said = (await chat.said(ann, session, "first"))["message"]
    other = (await chat.said(ann, session, "second"))["message"]
    await call(chat, ann, "PATCH", f"{path}/messages/{said['id']}", {"content": "edited"})
    await call(chat, ann, "PUT", f"{path}/messages/{said['id']}/reactions/%F0%9F%91%8D")
    await call(chat, ann, "DELETE", f"{path}/messages/{other['id']}")
    await call(chat, ann, "POST", f"{path}/participants", {"user_id": str(bob.id)})
    await call(chat, bob, "PUT", f"{path}/read", {"seq": 1})
    await call(chat, ann, "PUT", f"{path}/read", {"seq": 1})
    await call(chat, ann, "PATCH", path, {"title": "Renamed", "tags": ["a"]})
    await call(chat, ann, "DELETE", f"{path}/participants/{bob.id}")

    frames = await frames_of(chat, session)

    assert [frame["event_seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame["type"] for frame in frames} == set(EventType) - TOLD_ELSEWHERE
    by_type = {frame["type"]: frame["data"] for frame in frames}
    assert by_type["participant.left"]["removed_by"] == str(ann.id)
    assert by_type["reaction.updated"]["reactions"] == {"👍": [str(ann.id)]}
    assert by_type["session.updated"]["changes"]["title"] == "Renamed"
    assert by_type["message.deleted"] == {**by_type["message.deleted"], "id": other["id"], "seq": other["seq"]}
    assert by_type["message.deleted"]["deleted_at"] is not None


async def test_a_cleared_history_is_as_documented(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "gone")
    await call(chat, ann, "DELETE", f"/sessions/{session['id']}/messages")

    frames = await frames_of(chat, session)

    deleted = [frame["data"] for frame in frames if frame["type"] == "message.deleted"]
    assert deleted
    assert all(data["seq"] is None and data["deleted_at"] is None for data in deleted)
    cleared = [frame["data"] for frame in frames if frame["type"] == "session.updated"]
    assert cleared[-1]["fields"] == ["messages"]


async def test_a_run_that_failed_is_as_documented(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    chat.agent.next_scripts = [breaking_off("I was about")]
    await chat.said(ann, session)

    frames = await frames_of(chat, session)

    [failed] = [frame["data"] for frame in frames if frame["type"] == "run.failed"]
    assert failed["error"]["code"]


async def test_calls_of_tools_are_as_documented_also_after_they_were_cleared_away(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    said = await chat.said(ann, session)
    run_id = UUID(said["run"]["id"])
    hidden = await tool_call(
        chat,
        UUID(session["id"]),
        run_id,
        position=1,
        redacted=("url",),
        redact_result=True,
        result="High water",
        error=failed_tool(),
    )
    calls = [await tool_call(chat, UUID(session["id"]), run_id), hidden]
    kinds = sorted(TOOLS)
    for kind in kinds:
        for execution_id in calls:
            await add_event(chat, session, kind, run_id, execution_id)

    frames = [frame for frame in await frames_of(chat, session) if frame["type"] in TOOLS]
    await call(chat, ann, "DELETE", f"/sessions/{session['id']}/messages")
    cleared = [frame for frame in await frames_of(chat, session) if frame["type"] in TOOLS]

    assert [frame["type"] for frame in frames] == [kind for kind in kinds for _ in calls]
    for frame in frames:
        read = await chat.client.get(f"{API}/tool-executions/{frame['data']['id']}", headers=ann.headers)
        assert read.status_code == 404
    assert [frame["data"]["arguments"] for frame in frames[:2]] == [ARGUMENTS, {"url": "[redacted]"}]
    assert "High water" not in str(frames)
    for before, after in zip(frames, cleared, strict=True):
        gone = {name: before["data"][name] for name in ("id", "session_id", "run_id")}
        assert after == before | {"data": gone}


def failed_tool() -> Json:
    return {"type": "about:blank", "title": "No", "status": 502, "detail": "It said: High water", "code": "tool-failed"}


async def add_event(chat: ChatApi, session: Json, kind: str, run_id: UUID, execution_id: UUID) -> None:
    await chat.rows(
        "WITH n AS (UPDATE chat.sessions SET last_event_seq = last_event_seq + 1 WHERE id = $1"
        " RETURNING last_event_seq) INSERT INTO chat.session_events"
        " (session_id, event_seq, type, run_id, tool_execution_id) SELECT $1, last_event_seq, $2, $3, $4 FROM n",
        UUID(session["id"]),
        kind,
        run_id,
        execution_id,
    )


async def test_a_run_that_was_cancelled_is_as_documented(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    gate = Gate()
    chat.agent.script = gate
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    await call(chat, ann, "POST", f"/runs/{accepted['run']['id']}/cancel")
    async with asyncio.timeout(10):
        while "run.cancelled" not in [frame["type"] for frame in await frames_of(chat, session)]:
            await asyncio.sleep(0.02)
