"""SIGTERM with open streams: out within 10 s, with 0, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time

import pytest

from tests.faults import model_stats
from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import Mode, Person, script
from tests.faults.promises import promised

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)
WAITED_FOR_SECONDS = 5.0


async def test_sigterm_of_the_api_with_open_streams(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    goes = cluster.urls[1]
    for _ in range(rounds):
        sessions = [await somebody.session() for _ in range(4)]
        short, silent, endless, waiting = sessions
        keys = {name: secrets.token_hex(8) for name in ("short", "silent", "endless", "waiting")}
        contents = {
            "short": script("soon over ", tokens=10, delay_ms=150, key=keys["short"]),
            "silent": script("Somebody else said this.", first_delay_ms=60_000, times=1, key=keys["silent"]),
            "endless": script(tokens=600, delay_ms=50, key=keys["endless"]),
            "waiting": script("And this.", first_delay_ms=60_000, times=1, key=keys["waiting"]),
        }
        streams = {
            name: asyncio.create_task(somebody.stream(session, contents[name], first_url=goes))
            for name, session in (("short", short), ("silent", silent), ("endless", endless))
        }
        plain = asyncio.create_task(somebody.send(waiting, contents["waiting"], first_url=goes, mode=Mode.JSON))
        for name, key in keys.items():
            await model_stats.begun(cluster, key, pieces=1 if name == "endless" else 0)
        pid = cluster.api_b.pid
        seconds = await _sigterm(cluster.api_b)
        measured(f"SIGTERM of the API with three streams and a waiting request: out after {seconds:.1f} s")

        async with asyncio.timeout(PROMISED_SECONDS):
            for name, task in streams.items():
                reader, _ = await task
                reader.assert_gapless()
                assert reader.joined == reader.final_text, name
            exchanged = await plain
        assert exchanged["reply"]["content"] == "And this."
        by_session = {str(run["session_id"]): run for run in await ledger.all_ended(sessions, within=PROMISED_SECONDS)}
        assert by_session[short]["reply"] == "soon over " * 10
        assert by_session[silent]["reply"] == "Somebody else said this."
        assert by_session[endless]["status"] == "failed"
        assert by_session[endless]["error_code"] == "run-interrupted"
        assert by_session[endless]["reply"].startswith("word0 word1 ")
        for session in sessions:
            await ledger.assert_whole(session)
        await asyncio.to_thread(cluster.api_b.wait_until_back, pid)


async def test_sigterm_of_the_agent_with_open_streams(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    for _ in range(rounds):
        silent, speaking = [await somebody.session() for _ in range(2)]
        keys = secrets.token_hex(8), secrets.token_hex(8)
        to_answer = script("A second start.", first_delay_ms=60_000, times=1, key=keys[0])
        asked = await somebody.send(silent, to_answer)
        begun = await somebody.send(speaking, script(tokens=600, delay_ms=50, key=keys[1]))
        await model_stats.begun(cluster, keys[0])
        await ledger.spoken(speaking, "word0 word1 ")
        pid = cluster.agent.pid
        asked_at = time.time()
        seconds = await _sigterm(cluster.agent)
        measured(f"SIGTERM of the agent with two turns: out after {seconds:.1f} s")
        await asyncio.to_thread(cluster.agent.wait_until_back, pid)
        away = time.time() - asked_at
        ended = await somebody.run_ended(asked["run"]["id"])
        # On a machine that is busy with other things it may take longer to start than runs wait for it.
        assert ended["status"] == "completed" or (away > WAITED_FOR_SECONDS and ended["status"] == "failed"), ended
        interrupted = await somebody.run_ended(begun["run"]["id"])
        assert interrupted["status"] == "failed"
        assert interrupted["error"]["code"] == "agent-restarting"
        for session in (silent, speaking):
            await ledger.assert_whole(session)
        assert (await ledger.runs([speaking]))[0]["reply"].startswith("word0 word1 ")


async def test_sigterm_of_the_worker_gives_its_runs_back(
    cluster: Cluster, somebody: Person, ledger: Ledger, measured: Measured
) -> None:
    """With both APIs paused only the worker can answer; what it cannot finish it hands over."""
    session = await somebody.session()
    key = secrets.token_hex(8)
    content = script("Handed over twice.", first_delay_ms=60_000, times=2, key=key)
    sent = await somebody.send(session, content, url=cluster.urls[0])
    await model_stats.begun(cluster, key)
    with cluster.api_a.paused(), cluster.api_b.paused():
        await model_stats.called(cluster, key, times=2, within=PROMISED_SECONDS)
        seconds = await _sigterm(cluster.worker)
    measured(f"SIGTERM of the worker with a run: out after {seconds:.1f} s")
    ended = await somebody.run_ended(sent["run"]["id"])
    assert ended["status"] == "completed", ended
    await ledger.assert_whole(session)


async def _sigterm(part: Part) -> float:
    """Seconds until it was out, with 0."""
    pid = part.pid
    asked_at = part.send(signal.SIGTERM)
    end = await asyncio.to_thread(part.wait_for_exit, pid, PROMISED_SECONDS)
    assert end.code == 0
    return end.at - asked_at
