"""The agent is away: messages are stored, runs wait for a while, then fail visibly and can be tried again."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest

from tests.faults import model_stats
from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import Person, script
from tests.faults.promises import promised

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)
SESSIONS = 6
KEPT_AWAY_SECONDS = 1.5
WAITED_FOR_SECONDS = 5.0


async def test_runs_wait_for_an_agent_that_is_away_for_some_seconds(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    for _ in range(rounds):
        sessions = [await somebody.session() for _ in range(SESSIONS)]
        silent, key = await somebody.session(), secrets.token_hex(8)
        content = script("Anybody there?", first_delay_ms=60_000, times=1, key=key)
        await somebody.send(silent, content)  # it was taken, and nothing was said
        await model_stats.begun(cluster, key)
        pid = cluster.agent.pid
        with cluster.agent.away() as killed_at:
            for session in sessions:
                await somebody.send(session, "Anybody there?")
            await asyncio.sleep(max(0.0, killed_at + KEPT_AWAY_SECONDS - time.time()))
        await asyncio.to_thread(cluster.agent.wait_until_back, pid)
        away = time.time() - killed_at
        runs = await ledger.all_ended([*sessions, silent], within=PROMISED_SECONDS)
        last = max(run["finished_at"].timestamp() for run in runs) - killed_at
        measured(f"agent away for {away:.1f} s: {SESSIONS} waiting runs over {last:.1f} s after it left")
        assert last < PROMISED_SECONDS
        if away < WAITED_FOR_SECONDS:
            # On a machine that is busy with other things it may take longer to start: then they may fail.
            assert {(run["status"], run["reply"]) for run in runs} == {
                ("completed", "You said: Anybody there?"),
                ("completed", "Anybody there?"),
            }


async def test_runs_fail_visibly_when_the_agent_does_not_come_back(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    sessions = [await somebody.session() for _ in range(SESSIONS)]
    pid = cluster.agent.pid
    with cluster.agent.away():
        asked_at = time.time()
        sent = [await somebody.send(session, "Anybody there?") for session in sessions]
        runs = await ledger.all_ended(sessions, within=PROMISED_SECONDS)
        assert time.time() - asked_at < PROMISED_SECONDS
        assert {(run["status"], run["error_code"]) for run in runs} == {("failed", "agent-unavailable")}
        health = (await somebody.http.get(f"{somebody.urls[0]}/health/ready")).json()
        assert health["dependencies"]["agent"]["status"] == "down"
    await asyncio.to_thread(cluster.agent.wait_until_back, pid)

    for session, message in zip(sessions, sent, strict=True):
        kept = await somebody.message(session, message["message"]["id"])
        assert kept["content"] == "Anybody there?"
        path = f"/sessions/{session}/messages/{kept['id']}/regenerate"
        again = (await somebody.persist("POST", path, headers={"Prefer": "respond-async"})).json()
        run = await somebody.run_ended(again["run"]["id"])
        assert run["status"] == "completed"
        reply = await somebody.message(session, run["reply_message_id"])
        assert reply["content"] == "You said: Anybody there?"
