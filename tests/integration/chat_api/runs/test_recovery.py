"""Runs whose process died: found by their lease, and ended or answered by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from chat_api.kit.models import new_id
from chat_api.runs.events import RunEvent
from chat_api.runs.recovery import RunRecovery
from chat_api.runs.repository import Holder, RunRepository
from chat_api.runs.stream_log import NoStreamLog
from chat_api.runs.streams import RunStreams
from tests.factories.chat import ChatApi, Json, Person, chat_api, joined_text
from tests.fakes.agent import Gate, saying
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


async def go_silent(chat: ChatApi) -> None:
    """To the others, a process that is frozen or cut off looks dead: no heartbeat comes from it."""
    await chat.engine.recovery.stop()


async def test_a_run_that_had_spoken_fails_with_its_text_kept(two: tuple[ChatApi, ChatApi]) -> None:
    dying, living = two
    ann = await dying.person()
    gate = Gate(first="As I was say")
    dying.agent.script = gate
    session = await dying.session(ann)
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await living.told(run_id, "message.delta")
    await go_silent(dying)
    run = await living.run_ended(ann, run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "run-interrupted")
    reply = (await living.history(ann, session))[1]
    assert (reply["status"], reply["content"]) == ("failed", "As I was say")
    events = await living.events(ann, run_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert joined_text(events) == "As I was say"
    assert [event.type for event in events[-2:]] == ["message.updated", "run.failed"]


async def test_a_run_that_had_said_nothing_is_answered_by_another(two: tuple[ChatApi, ChatApi]) -> None:
    dying, living = two
    ann = await dying.person()
    gate = Gate(first="")
    dying.agent.script = gate
    living.agent.script = saying("Here", " I am.")
    session = await dying.session(ann)
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await go_silent(dying)
    assert (await living.run_ended(ann, run_id))["status"] == "completed"
    history = await living.history(ann, session)
    assert [message["content"] for message in history] == ["Hello", "Here I am."]
    events = await living.events(ann, run_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events].count("run.started") == 1
    gate.opened.set()
    await asyncio.sleep(0.1)
    assert (await living.history(ann, session)) == history


async def test_a_process_that_comes_back_late_writes_nothing(two: tuple[ChatApi, ChatApi]) -> None:
    dying, living = two
    ann = await dying.person()
    gate = Gate(first="Early", rest=" and late")
    dying.agent.script = gate
    session = await dying.session(ann)
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await living.told(run_id, "message.delta")
    await go_silent(dying)
    await living.run_ended(ann, run_id)
    gate.opened.set()
    await asyncio.sleep(0.2)
    reply = (await living.history(ann, session))[1]
    assert (reply["status"], reply["content"]) == ("failed", "Early")
    assert joined_text(await living.events(ann, run_id)) == "Early"


async def test_a_waiting_run_that_nobody_knows_of_is_started(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    body = await chat.said(ann, session, "Anybody there?")
    await chat.rows(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id, created_at)"
        " VALUES ($1, gen_random_uuid(), $2, now() - interval '5 seconds')",
        UUID(session["id"]),
        UUID(body["message"]["id"]),
    )
    await chat.engine.recovery.recover()
    async with asyncio.timeout(30):
        while len(await chat.history(ann, session)) < 2 or chat.engine.executor.active_count:
            await asyncio.sleep(0.01)
    assert (await chat.history(ann, session))[1]["content"] == "You said: Anybody there?"


async def test_a_run_that_never_gets_to_speak_fails_after_its_attempts(clean_database: Database) -> None:
    async with chat_api(clean_database.api_url, None, **LEASE) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        body = await chat.said(ann, session)
        reply_id, run_id = UUID(int=1), UUID(int=2)
        await chat.rows(
            "INSERT INTO chat.messages (session_id, seq, id, role, content, status)"
            " VALUES ($1, 2, $2, 'assistant', '', 'streaming')",
            UUID(session["id"]),
            reply_id,
        )
        await chat.rows(
            "INSERT INTO chat.runs (session_id, id, trigger_message_id, reply_message_id, status, attempt,"
            " lease_owner, lease_expires_at) VALUES ($1, $2, $3, $4, 'running', 3, 'gone', now())",
            UUID(session["id"]),
            run_id,
            UUID(body["message"]["id"]),
            reply_id,
        )
        run = await chat.run_ended(ann, str(run_id))
        assert (run["status"], run["error"]["code"]) == ("failed", "run-interrupted")
        assert chat.agent.requests == []


async def test_what_was_said_is_stored_while_the_run_goes_on(clean_database: Database) -> None:
    async with chat_api(clean_database.api_url, None, **LEASE) as chat:
        ann = await chat.person()
        gate = Gate(first="Checkpoint")
        chat.agent.script = gate
        session = await chat.session(ann)
        await chat.send_async(ann, session)
        await gate.arrival()
        async with asyncio.timeout(30):
            while (await chat.history(ann, session))[1]["content"] != "Checkpoint":
                await asyncio.sleep(0.02)
        assert (await chat.history(ann, session))[1]["status"] == "streaming"
        gate.opened.set()


async def test_stopping_gives_an_unspoken_run_back_and_closes_a_spoken_one(
    clean_database: Database, redis_url: str
) -> None:
    settings: dict[str, Any] = {"shutdown_seconds": 0.4}
    async with chat_api(clean_database.api_url, redis_url, **settings) as stopping:
        ann = await stopping.person()
        silent, spoken = await stopping.session(ann), await stopping.session(ann)
        quiet, loud = Gate(first=""), Gate(first="Half")
        stopping.agent.next_scripts = [quiet, loud]
        given_back = (await stopping.send_async(ann, silent))["run"]["id"]
        await quiet.arrival()
        closed = (await stopping.send_async(ann, spoken))["run"]["id"]
        await loud.arrival()
        await asyncio.sleep(0.02)
    async with chat_api(clean_database.api_url, redis_url) as next_process:
        ann = Person(ann.id, ann.username, ann.headers)
        assert (await next_process.run_ended(ann, given_back))["status"] == "completed"
        run = await next_process.run(ann, closed)
        assert (run["status"], run["error"]["code"]) == ("failed", "run-interrupted")
        assert (await next_process.history(ann, spoken))[1]["content"] == "Half"


async def test_a_process_that_froze_answers_the_run_that_it_gets_a_second_time(chat: ChatApi, ann: Person) -> None:
    """While it was frozen another process had the run and gave it back; it wakes and is the first to claim it."""
    await go_silent(chat)
    earlier, later = Gate(first=""), saying("Here", " again.")
    chat.agent.next_scripts = [earlier, later]
    session = await chat.session(ann)
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    await earlier.arrival()
    await chat.rows(
        "UPDATE chat.runs SET status = 'queued', attempt = 2, lease_owner = NULL, lease_expires_at = NULL"
        " WHERE id = $1",
        UUID(run_id),
    )
    await chat.engine.executor.start_next(UUID(session["id"]))
    assert (await chat.run_ended(ann, run_id))["status"] == "completed"
    assert (await chat.history(ann, session))[1]["content"] == "Here again."


async def test_a_later_attempt_is_not_kept_alive_by_an_earlier_one(chat: ChatApi, ann: Person) -> None:
    await go_silent(chat)
    chat.agent.next_scripts = [Gate(first="")]
    session = await chat.session(ann)
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    await chat.rows("UPDATE chat.runs SET attempt = 2, lease_expires_at = 'epoch' WHERE id = $1", UUID(run_id))
    await chat.engine.executor.beat()
    [row] = await chat.rows("SELECT lease_expires_at < now() AS lapsed FROM chat.runs WHERE id = $1", UUID(run_id))
    assert row["lapsed"]


class SlowSeal(RunStreams):
    """Seals when it is let."""

    def __init__(self, states: RunRepository) -> None:
        super().__init__(NoStreamLog(), states, keep_seconds=60, idle_seconds=1)
        self.reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def seal(self, run_id: UUID) -> list[RunEvent]:
        self.reached.set()
        await self.may_go_on.wait()
        return []


async def queued(chat: ChatApi, person: Person, session: Json) -> UUID:
    """A run that nobody has been told of yet."""
    body = await chat.said(person, session)
    run_id = UUID(int=3)
    await chat.rows(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id) VALUES ($1, $2, $3)",
        UUID(session["id"]),
        run_id,
        UUID(body["message"]["id"]),
    )
    return run_id


async def test_whose_claim_was_answered_too_late_cannot_write_beside_the_recovery_of_the_same_process(
    chat: ChatApi, ann: Person
) -> None:
    session = await chat.session(ann, reply_policy="never")
    run_id, engine = await queued(chat, ann, session), chat.engine
    await engine.recovery.stop()
    claim = await engine.repository.claim(UUID(session["id"]), Holder(engine.executor.owner, 0.01), new_id())
    assert claim is not None
    await asyncio.sleep(0.05)
    streams = SlowSeal(engine.repository)
    recovery = RunRecovery(
        engine.repository, streams, engine.executor, engine.recovery._approvals, engine.quotas, chat.settings
    )
    recovering = asyncio.create_task(recovery.recover())
    async with asyncio.timeout(30):
        await streams.reached.wait()
        assert await engine.repository.heartbeat(engine.executor.owner, 60, {run_id: claim.lease.attempt}, {}) == {}
        streams.may_go_on.set()
        await recovering
    assert (await chat.run_ended(ann, str(run_id)))["status"] == "completed"


async def test_a_claim_that_is_answered_after_a_later_one_is_dropped(chat: ChatApi, ann: Person) -> None:
    gate = Gate(first="")
    chat.agent.script = gate
    session = await chat.session(ann, reply_policy="never")
    run_id, engine = await queued(chat, ann, session), chat.engine
    late = await engine.repository.claim(UUID(session["id"]), Holder(engine.executor.owner, 60), new_id())
    assert late is not None
    assert await engine.repository.release(late.lease)
    await engine.executor.start_next(UUID(session["id"]))
    await gate.arrival()
    await engine.executor.begin(late)
    gate.opened.set()
    assert (await chat.run_ended(ann, str(run_id)))["status"] == "completed"
    assert len(chat.agent.requests) == 1
