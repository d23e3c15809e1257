"""Runs whose process died: answered by another where nobody can notice, else ended with what was said."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import uuid

import orjson
import pytest

from chat_api.runs.statements import CLAIM, SEND
from tests.faults import model_stats
from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import Person, script
from tests.faults.promises import promised
from tests.faults.streams import Reader

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)


async def test_a_killed_process_leaves_no_run_behind(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    doomed = cluster.urls[1]
    for _ in range(rounds):
        silent, spoken, unclaimed = [await somebody.session() for _ in range(3)]
        silent_key, spoken_key = secrets.token_hex(8), secrets.token_hex(8)
        to_answer = script("A whole answer, after all.", first_delay_ms=60_000, times=1, key=silent_key)
        asked = await somebody.send(silent, to_answer, url=doomed)
        to_keep = script("one two three and never four", hang_after=3, key=spoken_key)
        begun = await somebody.send(spoken, to_keep, url=doomed)
        queued = await somebody.send(spoken, "And then?", url=doomed)
        await model_stats.begun(cluster, silent_key)
        await model_stats.begun(cluster, spoken_key, pieces=3)
        await ledger.spoken(spoken, "one two three ")

        pid = cluster.api_b.pid
        killed_at = cluster.api_b.kill()
        stored = await _stored_but_not_claimed(ledger, unclaimed, somebody, "Who claims me?")
        followers = [
            asyncio.create_task(somebody.stream(session, content, client_id))
            for session, content, client_id in ((unclaimed, "Who claims me?", "unclaimed"),)
        ]
        ended = [await somebody.run_ended(sent["run"]["id"]) for sent in (asked, begun, queued)]
        ended.append(await somebody.run_ended(stored))
        seconds = time.time() - killed_at
        measured(f"api killed with a silent, a speaking, a queued and an unclaimed run: all over after {seconds:.1f} s")
        assert seconds < PROMISED_SECONDS
        assert [run["status"] for run in ended] == ["completed", "failed", "completed", "completed"]
        assert ended[1]["error"]["code"] == "run-interrupted"
        assert await _reply(ledger, silent) == ["A whole answer, after all."]
        assert await _reply(ledger, spoken) == ["one two three ", "You said: And then?"]
        assert await _reply(ledger, unclaimed) == ["You said: Who claims me?"]
        for session in (silent, spoken, unclaimed):
            await ledger.assert_whole(session)
        for follower in followers:
            reader, _ = await follower
            reader.assert_gapless()

        closed = await model_stats.closed(cluster, spoken_key, within=30)
        assert closed["ended_at"] - killed_at < promised(3), "the model went on for nobody"
        await asyncio.to_thread(cluster.api_b.wait_until_back, pid)
        assert (await somebody.run_ended(begun["run"]["id"])) == ended[1]


async def test_readers_of_an_orphan_hear_its_end_wherever_they_are(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    survivor, doomed = cluster.urls
    session = await somebody.session()
    key = secrets.token_hex(8)
    content = script("one two three and never four", hang_after=3, key=key)
    sent = await somebody.send(session, content, url=doomed, client_id="followed")
    there = asyncio.create_task(somebody.stream(session, content, "followed", url=survivor))
    anywhere = asyncio.create_task(somebody.stream(session, content, "followed"))
    await ledger.spoken(session, "one two three ")
    pid = cluster.api_b.pid
    cluster.api_b.kill()
    run = await somebody.run_ended(sent["run"]["id"])
    assert run["status"] == "failed"
    for task in (there, anywhere):
        reader: Reader
        reader, _ = await task
        reader.assert_gapless()
        assert reader.terminals == ["run.failed"]
        assert reader.joined == reader.final_text == "one two three "
    await asyncio.to_thread(cluster.api_b.wait_until_back, pid)


async def test_a_lease_that_its_holder_knows_nothing_of_runs_out(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    """The claim was committed, and its answer lost: the process lives and beats, but does not answer this run."""
    holding, lost = await somebody.session(), await somebody.session()
    key = secrets.token_hex(8)
    held = await somebody.send(holding, script("x", first_delay_ms=60_000, times=1, key=key), url=cluster.urls[0])
    await model_stats.begun(cluster, key)
    (row,) = await ledger.runs([holding])
    run_id = await _stored_but_not_claimed(
        ledger, lost, somebody, "Does anybody hear me?", claimed_by=row["lease_owner"]
    )
    run = await somebody.run_ended(run_id, within=PROMISED_SECONDS)
    assert run["status"] == "completed"
    assert await _reply(ledger, lost) == ["You said: Does anybody hear me?"]
    await somebody.persist("POST", f"/runs/{held['run']['id']}/cancel")
    await somebody.run_ended(held["run"]["id"])


async def test_runs_outlive_an_outage_of_postgres_that_is_longer_than_their_leases(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    sessions = [await somebody.session() for _ in range(4)]
    keys = [secrets.token_hex(8) for _ in sessions]
    for session, key, url in zip(sessions, keys, cluster.urls * 2, strict=True):
        await somebody.send(session, script("piece ", tokens=140, delay_ms=50, key=key), url=url)
    for key in keys:
        await model_stats.begun(cluster, key, pieces=2)
    pid = cluster.postgres.pid
    with cluster.postgres.away():
        await asyncio.sleep(5.5)
    await asyncio.to_thread(cluster.postgres.wait_until_back, pid)
    runs = await ledger.all_ended(sessions, within=PROMISED_SECONDS)
    assert [(run["status"], run["reply"]) for run in runs] == [("completed", "piece " * 140)] * len(sessions)
    for session in sessions:
        await ledger.assert_whole(session)


async def _reply(ledger: Ledger, session: str) -> list[str]:
    return [run["reply"] for run in await ledger.runs([session])]


async def _stored_but_not_claimed(
    ledger: Ledger, session: str, sender: Person, content: str, claimed_by: str | None = None
) -> str:
    """What a process leaves that dies between the message's commit and the claim of its run, or just after that."""
    message_id, run_id = uuid.uuid4(), uuid.uuid4()
    session_id = uuid.UUID(session)
    fingerprint = hashlib.sha256(orjson.dumps([content, {}], option=orjson.OPT_SORT_KEYS)).digest()
    new = (session_id, uuid.UUID(sender.id), message_id, content, "unclaimed", fingerprint, "{}", False, run_id)
    await ledger.rows(SEND, *new, None, 0.0, uuid.uuid4(), False, True, None, None, 1)
    if claimed_by is not None:
        await ledger.rows(CLAIM, session_id, claimed_by, 4.0, uuid.uuid4())
    return str(run_id)
