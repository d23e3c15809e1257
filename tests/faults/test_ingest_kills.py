"""kill -9 while documents are indexed: each ends `ready` with exactly its passages, or `failed` with a reason."""

from __future__ import annotations

import asyncio
import random

import pytest

from chat_api.config import ApiSettings
from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.library import Library
from tests.faults.person import Person
from tests.faults.promises import promised

pytestmark = pytest.mark.faults

DOCUMENTS = 12
"""Four are indexed at once: at the kill, some are ready, some under way, and some not yet begun."""
_MOST_READY = DOCUMENTS // 4
LEASE_SECONDS = float(ApiSettings.model_fields["job_lease_seconds"].default)
PROMISED_SECONDS = promised(LEASE_SECONDS + 15)


@pytest.mark.parametrize("victim", ["worker", "agent", "valkey", "postgres"])
async def test_a_kill_leaves_every_document_whole(
    victim: str, cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    part: Part = getattr(cluster, victim)
    for turn in range(rounds):
        library = await Library.of(somebody)
        moments = random.Random(f"{victim}/{turn}")
        uploading = asyncio.gather(*(library.upload(f"{library.bot_id[-6:]}-{index}") for index in range(DOCUMENTS)))
        await library.under_way(ledger, moments.randint(0, _MOST_READY), within=PROMISED_SECONDS)
        pid = part.pid
        killed_at = part.kill()
        await uploading
        documents = await library.all_final(ledger, within=PROMISED_SECONDS + 15)
        await asyncio.to_thread(part.wait_until_back, pid)

        await library.assert_whole(ledger, documents)
        failed = [row["error"] for row in documents if row["status"] == "failed"]
        ready = [row["indexed_at"].timestamp() for row in documents if row["status"] == "ready"]
        before = sum(moment < killed_at for moment in ready)
        last = max(ready, default=killed_at) - killed_at
        measured(
            f"kill -9 of {victim}: {before} of {DOCUMENTS} documents ready before,"
            f" the last {last:.1f} s after the kill, {len(failed)} failed"
        )
        assert before < DOCUMENTS, "nothing was under way when it was killed"
        assert last < PROMISED_SECONDS
