"""Cancelling on another replica than the one that answers."""

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

PROMISED_SECONDS = promised(1.0)


async def test_a_cancel_on_the_other_replica_closes_the_models_connection(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    here, elsewhere = cluster.urls
    for _ in range(rounds):
        session = await somebody.session()
        key = secrets.token_hex(8)
        content = script(tokens=600, delay_ms=20, key=key)
        sent = await somebody.send(session, content, url=here, client_id="stop-me")
        reading = asyncio.create_task(somebody.stream(session, content, "stop-me", url=elsewhere))
        await model_stats.begun(cluster, key, pieces=20)
        asked_at = time.time()
        await somebody.persist("POST", f"/runs/{sent['run']['id']}/cancel", url=elsewhere)
        call = await model_stats.closed(cluster, key, within=30)
        seconds = call["ended_at"] - asked_at
        measured(f"cancelled on the other replica: the model's connection closed after {seconds:.2f} s")
        assert call["state"] == "closed_by_client"
        assert seconds < PROMISED_SECONDS

        run = await somebody.run_ended(sent["run"]["id"])
        assert run["status"] == "cancelled"
        (row,) = await ledger.runs([session])
        whole = "".join(f"word{number} " for number in range(600))
        assert row["reply_status"] == "cancelled"
        assert len(row["reply"]) > 0
        assert whole.startswith(row["reply"])
        reader, _ = await reading
        reader.assert_gapless()
        assert reader.terminals == ["run.cancelled"]
        assert reader.joined == reader.final_text == row["reply"]
        await ledger.assert_whole(session)
