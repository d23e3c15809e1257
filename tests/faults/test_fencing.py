"""A process that was thought dead and comes back writes nothing over what others did meanwhile."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
import pytest

from tests.faults import model_stats
from tests.faults.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.faults.person import Person, script
from tests.faults.promises import promised

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)


async def test_a_paused_process_overwrites_nothing_when_it_resumes(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int
) -> None:
    for _ in range(rounds):
        sessions = [await somebody.session() for _ in range(3)]
        keys = [secrets.token_hex(8) for _ in sessions]
        contents = [
            # Its own call speaks while it is paused; the process that takes over has to call again.
            script("Said once.", first_delay_ms=1500, times=1, key=keys[0]),
            script(tokens=150, delay_ms=20, key=keys[1]),
            script("all but the end", hang_after=4, key=keys[2]),
        ]
        here = cluster.urls
        sent = [
            await somebody.send(session, content, url=here[number % 2], client_id="fenced")
            for number, (session, content) in enumerate(zip(sessions, contents, strict=True))
        ]
        readers = [
            asyncio.create_task(somebody.stream(session, content, "fenced", url=here[number % 2]))
            for number, (session, content) in enumerate(zip(sessions, contents, strict=True))
        ]
        for key, pieces in zip(keys, (0, 5, 4), strict=True):
            await model_stats.begun(cluster, key, pieces=pieces)
        # Paused before its words arrived, a process would not have spoken, and its run would be answered again.
        for session in sessions[1:]:
            await ledger.spoken(session)
        with cluster.api_a.paused(), cluster.api_b.paused():
            runs = await ledger.all_ended(sessions, within=PROMISED_SECONDS)
            before = await _everything(ledger, sessions)
        await asyncio.sleep(2.5)  # five heartbeats, and the rest of what the models said
        assert await _everything(ledger, sessions) == before
        assert [run["status"] for run in runs] == ["completed", "failed", "failed"]
        assert runs[0]["reply"] == "Said once."
        for session in sessions:
            await ledger.assert_whole(session)

        # Whoever was connected to a paused process hears one end, which is the stored one.
        for task, run in zip(readers, runs, strict=True):
            reader, _ = await task
            reader.assert_ended_once()
            assert reader.terminals == [f"run.{run['status']}"]
            assert reader.final_text == run["reply"]
        for message in sent:
            assert (await somebody.run(message["run"]["id"]))["status"] in ("completed", "failed")
        exchanged = [
            await somebody.send(session, "Still here?", url=url) for session, url in zip(sessions, here, strict=False)
        ]
        for again in exchanged:
            assert (await somebody.run_ended(again["run"]["id"]))["status"] == "completed"


async def _everything(ledger: Ledger, sessions: list[str]) -> list[list[asyncpg.Record]]:
    tables = ("sessions", "messages", "session_events", "runs")
    column = {"sessions": "id"}
    return [
        await ledger.rows(
            f"SELECT t::text FROM chat.{table} t WHERE {column.get(table, 'session_id')}::text = ANY($1) ORDER BY 1",
            sessions,
        )
        for table in tables
    ]
