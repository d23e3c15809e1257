"""Decisions, cancels, expiry, regenerated replies and processes that stop, in any order: what holds always."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tests.factories.chat import API, ChatApi, Event, Json, Person, chat_api
from tests.fakes.tool_agent import ToolAgent, Wish, safe
from tests.stores import Database

_SESSIONS = 8
_SECONDS = 2.0
_FINAL = ("completed", "failed", "cancelled")
_SETTINGS: dict[str, Any] = {
    "run_heartbeat_seconds": 0.1,
    "run_poll_seconds": 0.1,
    "shutdown_seconds": 0.4,
    "approval_seconds": 1.5,
}


class Storm:
    """People who do whatever comes to mind to the runs of a few sessions, over two processes."""

    def __init__(self, seed: int, processes: list[ChatApi]) -> None:
        self.random = random.Random(seed)
        self.processes = processes
        self.agent = ToolAgent([Wish("one"), safe("look"), Wish("two")], [Wish("three")], before="May I?")
        for process in processes:
            process.agent.script = self.agent

    @property
    def chat(self) -> ChatApi:
        return self.random.choice(self.processes)

    async def session(self, ann: Person) -> Json:
        session = await self.chat.session(ann)
        await self.chat.send_async(ann, session)
        until = asyncio.get_running_loop().time() + _SECONDS
        while asyncio.get_running_loop().time() < until:
            await self._one_thing(ann, session)
            await asyncio.sleep(self.random.random() / 20)
        return session

    async def _one_thing(self, ann: Person, session: Json) -> None:
        calls = f"{API}/sessions/{session['id']}/tool-executions"
        listed = (await self.chat.client.get(calls, headers=ann.headers)).json()["items"]
        waiting = [call for call in listed if call["status"] == "pending_approval"]
        match self.random.randrange(8):
            case 0 | 1 | 2 | 3 if waiting:
                verdict = self.random.choice(["approve", "approve", "reject"])
                call = self.random.choice(waiting)
                await asyncio.gather(
                    *(
                        self.chat.client.post(f"{API}/tool-executions/{call['id']}/{verdict}", headers=ann.headers)
                        for _ in range(2)
                    )
                )
            case 4 if listed and self.random.random() < 0.3:
                await self.chat.client.post(f"{API}/runs/{listed[-1]['run_id']}/cancel", headers=ann.headers)
            case 5 if self.random.random() < 0.3:
                await self.chat.send_async(ann, session, "And?")
            case _:
                pass


async def _quiet(chat: ChatApi) -> None:
    """Whatever still waits expires, and everything ends."""
    async with asyncio.timeout(60):
        while await chat.rows("SELECT 1 FROM chat.runs WHERE NOT status = ANY($1::text[])", list(_FINAL)):
            await asyncio.sleep(0.1)


async def _whole_stream(chat: ChatApi, person: Person, run_id: str) -> list[Event]:
    """All events of a run that has ended, over all its waits."""
    told = await chat.events(person, run_id)
    while told[-1].type == "run.awaiting_approval":
        told += await chat.events(person, run_id, after=told[-1].id)
    return told


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("freezes", [False, True])
async def test_every_run_ends_and_nothing_runs_twice_or_unasked(
    clean_database: Database, redis_url: str, seed: int, freezes: bool
) -> None:
    # Nobody is thought dead where nobody is, however busy the machine.
    settings = _SETTINGS | {"run_lease_seconds": 1 if freezes else 60}
    async with (
        chat_api(clean_database.api_url, redis_url, **settings) as one,
        chat_api(clean_database.api_url, redis_url, **settings) as other,
    ):
        storm = Storm(seed, [one, other])
        ann = await one.person()
        people = [asyncio.create_task(storm.session(ann)) for _ in range(_SESSIONS)]
        if freezes:
            await asyncio.sleep(_SECONDS / 2)
            await other.engine.recovery.stop()  # to the others, it looks dead
        await asyncio.gather(*people)
        await _quiet(one)
        executions = await one.rows("SELECT * FROM chat.tool_executions")
        ended = {"succeeded", "failed", "rejected"}
        assert not [(row["run_id"], row["status"]) for row in executions if row["status"] not in ended]
        assert len(executions) > _SESSIONS
        for row in executions:
            if row["risk"] == "risky" and row["started_at"] is not None:
                assert row["decided_by"] is not None
                assert row["attempts"] == 1
        started = Counter(row["arguments"]["text"] for row in executions if row["started_at"] is not None)
        ran = Counter(done["text"] for done in storm.agent.executed)
        assert all(ran[text] <= started[text] for text in ran if text != "look")
        succeeded = Counter(row["arguments"]["text"] for row in executions if row["status"] == "succeeded")
        assert all(ran[text] >= succeeded[text] for text in succeeded)
        for events in await one.rows(
            "SELECT array_agg(event_seq ORDER BY event_seq) AS numbers FROM chat.session_events GROUP BY session_id"
        ):
            assert events["numbers"] == list(range(1, len(events["numbers"]) + 1))
        for run in await one.rows("SELECT id, status, stream_length FROM chat.runs"):
            told = await _whole_stream(other, ann, str(run["id"]))
            assert _is_whole(told) or (freezes and _skips_to_the_end(told)), (
                f"{run['id']}: {' '.join(f'{event.id}:{event.type}' for event in told)}"
            )
            assert told[-1].type == f"run.{run['status']}"


def _is_whole(told: list[Event]) -> bool:
    return [event.id for event in told] == list(range(1, len(told) + 1))


def _skips_to_the_end(told: list[Event]) -> bool:
    """Of what was stored by a process that was thought dead before it told of it, readers hear by the whole reply."""
    *before, updated, terminal = told
    return (
        _is_whole(before)
        and [updated.type, terminal.type[:4]] == ["message.updated", "run."]
        and before[-1].id < updated.id == terminal.id - 1
    )
