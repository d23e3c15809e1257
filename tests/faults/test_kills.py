"""kill -9 of each process under load: nothing acknowledged is lost or doubled, and every run ends within 10 s."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger, assert_says
from tests.faults.load import load, reply_to
from tests.faults.person import API, Mode, Person
from tests.faults.promises import promised
from tests.faults.streams import Reader

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)


@pytest.mark.parametrize("victim", ["api_b", "agent", "postgres", "valkey", "worker"])
async def test_a_kill_loses_nothing_and_every_run_ends(
    victim: str, cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    part: Part = getattr(cluster, victim)
    for _ in range(rounds):
        async with load(somebody) as running:
            await asyncio.sleep(1.2)
            before = running.count
            pid = part.pid
            killed_at = part.kill()
            await asyncio.sleep(1.5)
        runs = await ledger.all_ended(running.sessions, within=PROMISED_SECONDS)
        await asyncio.to_thread(part.wait_until_back, pid)

        assert running.count > before > 0, "nobody wrote before and after the kill"
        for session in running.sessions:
            await ledger.assert_whole(session)
            await ledger.assert_stored_once(session, running.acknowledged[session])
        said = await _expected(ledger, running.sessions)
        for run in runs:
            assert_says(run, said[run["trigger_message_id"]])
        for reader in running.streamed.values():
            _assert_streamed_well(reader, snapshots_allowed=victim == "valkey")
        for url in cluster.urls:
            # At once, without a try that fails: what a process keeps open from before is known to be gone.
            answer = await somebody.http.get(f"{url}{API}/users/me", headers=somebody.headers)
            assert answer.status_code == 200, answer.text
            exchanged = await somebody.send(running.sessions[0], "Are you back?", url=url, mode=Mode.JSON)
            assert exchanged["reply"]["content"] == "You said: Are you back?"

        delays = [run["finished_at"].timestamp() - max(killed_at, run["created_at"].timestamp()) for run in runs]
        failed = [run["error_code"] for run in runs if run["status"] == "failed"]
        measured(
            f"kill -9 of {victim}: {running.count} messages, last run ended {max(delays):.1f} s after the kill,"
            f" {len(failed)} of {len(runs)} failed {sorted(set(failed)) or ''}"
        )
        assert max(delays) < PROMISED_SECONDS
        assert len(failed) < len(runs)


async def _expected(ledger: Ledger, sessions: list[str]) -> dict[object, str]:
    """Message → what the model was told to answer it."""
    rows = await ledger.rows(
        "SELECT id, client_id FROM chat.messages WHERE role = 'user' AND session_id::text = ANY($1)", sessions
    )
    return {row["id"]: reply_to(row["client_id"]) for row in rows}


def _assert_streamed_well(reader: Reader, *, snapshots_allowed: bool) -> None:
    final = reader.final_text
    assert final is not None
    if snapshots_allowed:
        reader.assert_ended_once()
        assert final.startswith(reader.joined)
    else:
        reader.assert_gapless()
        assert reader.joined.encode() == final.encode()
