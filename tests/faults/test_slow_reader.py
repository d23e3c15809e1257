"""A socket that never reads: closed soon, cheap until then, and no trouble for anybody else."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.processes import memory_mib
from tests.faults.accounts import Member
from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import API
from tests.faults.promises import promised
from tests.faults.room_client import RoomClient
from tests.faults.rooms import assert_all_saw_everything, following, open_room, writing

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(10.0)
PROMISED_MIB = 5.0
PROMISED_FACTOR = 1.5
# Below it a machine that others use as well says more about them than about us.
NOISE_SECONDS = 0.05
# Whoever waits for the deaf one waits for seconds with all that is said; a moment without a processor hits a few.
_SHARE = 0.90
_CALM_SECONDS = 3.0
_ESTABLISHED = "01"
# What the kernel keeps for a socket is full after a second of such messages, and no writer sends too much.
_LENGTH = 24 * 1024
_PAUSE_SECONDS = 0.15


async def test_a_socket_that_never_reads_is_closed(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    """The same is said in a room on the other process: what disturbs the whole machine disturbs both."""
    here, there = cluster.urls
    for _ in range(rounds):
        room, other_room = [await open_room(cluster, ledger, 8) for _ in cluster.urls]
        *readers, deaf = room.members
        clients = [RoomClient(member, room.session, here) for member in readers]
        others = [RoomClient(member, other_room.session, there) for member in other_room.members[:-1]]
        async with following([*clients, *others]):
            async with (
                writing(clients[:4], pause=_PAUSE_SECONDS, length=_LENGTH) as talk,
                writing(others[:4], pause=_PAUSE_SECONDS, length=_LENGTH) as other_talk,
            ):
                await asyncio.sleep(_CALM_SECONDS / 2)  # until buffers and pools have grown to what they need
                calm_since = time.perf_counter()
                await asyncio.sleep(_CALM_SECONDS)
                calm = talk.latencies(clients, since=calm_since)
                before, _ = memory_mib(cluster.api_a.pid)
                # In threads, all that waits: what is measured is the others' time, and their loop is this one.
                with await asyncio.to_thread(_never_reading, cluster, deaf, room.session) as connection:
                    since = time.perf_counter()
                    usage = await asyncio.to_thread(_until_closed, cluster, connection)
                disturbed = talk.latencies(clients, since=since)
                elsewhere = other_talk.latencies(others, since=since)
            await assert_all_saw_everything(ledger, room, clients, talk)
        before_it, after_it, without_it = (
            latencies[int(len(latencies) * _SHARE)] for latencies in (calm, disturbed, elsewhere)
        )
        grown = usage.most_mib - before
        measured(
            f"a socket that never reads: closed after {usage.seconds:.1f} s, API grew by {grown:.1f} MiB,"
            f" p90 of the others {before_it * 1000:.0f} → {after_it * 1000:.0f} ms,"
            f" on the other process {without_it * 1000:.0f} ms"
        )
        assert usage.seconds < PROMISED_SECONDS
        assert grown <= PROMISED_MIB
        usual = max(before_it, without_it)
        assert after_it <= max(usual * PROMISED_FACTOR, usual + NOISE_SECONDS)


@dataclass(frozen=True)
class _Usage:
    seconds: float
    most_mib: float


def _until_closed(cluster: Cluster, connection: socket.socket) -> _Usage:
    """How long the server keeps its end of a connection open, and how much memory it has at most."""
    port = connection.getsockname()[1]
    started = time.monotonic()
    most = 0.0
    while (seconds := time.monotonic() - started) < PROMISED_SECONDS + 10:
        most = max(most, memory_mib(cluster.api_a.pid)[0])
        if not _is_open(cluster.port("api-a"), port):
            break
        time.sleep(0.1)
    return _Usage(seconds, most)


def _is_open(server_port: int, client_port: int) -> bool:
    """Whether the server has not closed the connection. Who does not read cannot see it, so the kernel is asked."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if local.endswith(f":{server_port:04X}") and remote.endswith(f":{client_port:04X}"):
            return state == _ESTABLISHED
    return False


def _never_reading(cluster: Cluster, member: Member, session: str) -> socket.socket:
    """A socket that follows a session and reads nothing from then on."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", cluster.port("api-a")))
    connection.sendall(
        f"GET {API}/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    _read_until(connection, b"\r\n\r\n")
    connection.sendall(_frame({"type": "authenticate", "token": member.token}))
    _read_until(connection, b'"ready"')
    connection.sendall(_frame({"type": "subscribe", "session_id": session}))
    _read_until(connection, b'"subscribed"')
    return connection


def _read_until(connection: socket.socket, mark: bytes) -> None:
    data = b""
    while mark not in data:
        data += (piece := connection.recv(1024))
        assert piece, data


def _frame(frame: dict[str, str]) -> bytes:
    """A client's text frame, masked with zeros."""
    payload = json.dumps(frame).encode()
    return b"\x81" + bytes((0x80 | 126,)) + len(payload).to_bytes(2, "big") + bytes(4) + payload
