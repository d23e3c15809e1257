"""Clients that go away in the middle of a stream leave nothing behind, and their runs are finished."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import API, Person, script
from tests.faults.promises import ROUNDS, promised

pytestmark = pytest.mark.faults

CLIENTS = 200 if ROUNDS > 1 else 60
TOKENS = 25
PROMISED_SECONDS = promised(2.0)
_GAUGE = re.compile(r"^db_connections_in_use (\S+)$", re.MULTILINE)


async def test_clients_that_vanish_leave_the_pools_empty(
    cluster: Cluster, somebody: Person, ledger: Ledger, measured: Measured
) -> None:
    sessions: list[str] = []
    while len(sessions) < CLIENTS:
        sessions += await asyncio.gather(*(somebody.session() for _ in range(10)))
    ports = (cluster.port("api-a"), cluster.port("api-b"))
    content = script("piece ", tokens=TOKENS, delay_ms=150)

    clients = await asyncio.gather(
        *(_read_first_delta(somebody, ports[number % 2], session, content) for number, session in enumerate(sessions))
    )
    for writer in clients:
        _reset(writer)
    vanished_at = time.monotonic()

    await _pools_are_empty(somebody)
    seconds = time.monotonic() - vanished_at
    await _no_transaction_is_left_open(ledger)
    measured(f"{CLIENTS} clients vanished: pools empty after {seconds:.2f} s")

    runs = await ledger.all_ended(sessions, within=40)
    assert {run["status"] for run in runs} == {"completed"}
    assert {run["reply"] for run in runs} == {"piece " * TOKENS}
    assert len(runs) == CLIENTS
    # All these runs have just ended together, and each looked for the next of its session.
    await _pools_are_empty(somebody)
    await _no_transaction_is_left_open(ledger)


async def _pools_are_empty(person: Person) -> None:
    """Return when no connection is in use; fail when that takes longer than what is promised."""
    started = time.monotonic()
    while in_use := await _connections_in_use(person):
        assert time.monotonic() - started < PROMISED_SECONDS, f"{in_use} connections are still in use"
        await asyncio.sleep(0.02)


async def _no_transaction_is_left_open(ledger: Ledger) -> None:
    """The worker's own are between two statements now and then; one that was left behind stays."""
    started = time.monotonic()
    while idle := await ledger.value("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"):
        assert time.monotonic() - started < PROMISED_SECONDS, f"{idle} transactions are still open"
        await asyncio.sleep(0.02)


async def _read_first_delta(person: Person, port: int, session: str, content: str) -> asyncio.StreamWriter:
    """A bare client: so many real ones would be slower than what is tested."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"content": content}).encode()
    head = (
        f"POST {API}/sessions/{session}/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Authorization: {person.headers['Authorization']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    async with asyncio.timeout(60):
        await reader.readuntil(b"event: message.delta\n")
    return writer


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a phone does that lost its network and found another."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _connections_in_use(person: Person) -> int:
    in_use = 0
    for url in person.urls:
        metrics = (await person.http.get(f"{url}/metrics")).text
        found = _GAUGE.search(metrics)
        assert found is not None, metrics
        in_use += int(float(found.group(1)))
    return in_use
