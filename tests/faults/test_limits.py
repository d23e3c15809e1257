"""Limits over two processes: exactly as much as the plan allows, and no waiting for a Valkey that is not there."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import API, Person

pytestmark = pytest.mark.faults

CALLERS = 50
REQUESTS = 100
MESSAGES = 40
"""Of the plan `tight`, which the settings of tests have."""


async def give_the_tight_plan(ledger: Ledger, person: Person) -> None:
    """Before the first request: nobody remembers another."""
    await ledger.rows("UPDATE chat.users SET plan = 'tight' WHERE id = $1::text::uuid", person.id)


async def test_fifty_callers_at_two_processes_get_as_many_answers_as_the_plan_allows(
    cluster: Cluster, somebody: Person, ledger: Ledger, measured: Measured
) -> None:
    await give_the_tight_plan(ledger, somebody)

    async def ask(number: int, times: int) -> list[int]:
        url = f"{cluster.urls[number % 2]}{API}/plans"
        return [(await somebody.http.get(url, headers=somebody.headers)).status_code for _ in range(times)]

    began = time.monotonic()
    # Each process asks for the plan once, and not fifty times at once.
    statuses = await ask(0, 1) + await ask(1, 1)
    for each in await asyncio.gather(*(ask(number, 3) for number in range(CALLERS))):
        statuses += each
    seconds = time.monotonic() - began
    admitted = statuses.count(200)
    measured(f"{admitted} of {len(statuses)} requests of a plan of {REQUESTS} a minute, in {seconds:.1f} s")

    assert seconds < 50, "the machine is too slow to tell: a minute must not pass meanwhile"
    assert set(statuses) == {200, 429}
    assert abs(admitted - REQUESTS) <= 1


async def test_fifty_callers_at_two_processes_send_as_many_messages_as_the_plan_allows(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    await give_the_tight_plan(ledger, somebody)
    sessions = [await somebody.session() for _ in range(5)]
    for session in sessions:
        await somebody.persist("PATCH", f"/sessions/{session}", json={"reply_policy": "never"})

    async def send(number: int) -> int:
        url = f"{cluster.urls[number % 2]}{API}/sessions/{sessions[number % 5]}/messages"
        body = {"content": "Hello", "client_id": f"{number}"}
        # A busy machine may say that it has no connection free, and that it is to be tried again.
        while (status := (await somebody.http.post(url, json=body, headers=somebody.headers)).status_code) == 503:
            await asyncio.sleep(0.1)
        return status

    statuses = await asyncio.gather(*map(send, range(CALLERS)))

    assert statuses.count(201) == MESSAGES
    assert set(statuses) == {201, 429}
    stored = "SELECT count(*) FROM chat.messages WHERE sender_id = $1::text::uuid"
    assert await ledger.value(stored, somebody.id) == MESSAGES
    used = (await somebody.persist("GET", "/users/me/usage")).json()["messages"]
    assert used == {"used": MESSAGES, "limit": MESSAGES, "remaining": 0}
    gaps = "SELECT count(*) FROM chat.sessions WHERE owner_id = $1::text::uuid AND last_seq <> message_count"
    assert await ledger.value(gaps, somebody.id) == 0, "what is refused takes no number"


async def test_a_valkey_that_hangs_or_is_gone_holds_nobody_up(
    cluster: Cluster, somebody: Person, ledger: Ledger, measured: Measured
) -> None:
    await give_the_tight_plan(ledger, somebody)
    url = f"{cluster.urls[0]}{API}/plans"

    async def times(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.monotonic()
            answer = await somebody.http.get(url, headers=somebody.headers)
            taken.append(time.monotonic() - began)
            assert answer.status_code == 200, answer.text
            assert answer.headers["RateLimit-Limit"] == str(REQUESTS)
        return taken

    before = await times(10)
    with cluster.valkey.paused():
        hung = await times(20)
    pid = cluster.valkey.pid
    with cluster.valkey.away():
        gone = await times(20)
        # Counted here alone now: the quota of a process, from nothing.
        statuses = [(await somebody.http.get(url, headers=somebody.headers)).status_code for _ in range(REQUESTS)]
    await asyncio.to_thread(cluster.valkey.wait_until_back, pid)
    worst = {"there": max(before), "hangs": max(hung), "gone": max(gone)}
    measured(
        "longest request, Valkey " + ", ".join(f"{what}: {seconds * 1000:.0f} ms" for what, seconds in worst.items())
    )

    assert 429 in statuses, "somebody counts"
    assert sorted(hung)[len(hung) // 2] < 0.25, "only those that had asked it already wait for it"
    assert sorted(gone)[len(gone) // 2] < 0.25
