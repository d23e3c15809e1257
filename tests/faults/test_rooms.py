"""A room on two replicas: what its sockets see, whatever is cut, killed, stopped or away meanwhile."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.promises import promised
from tests.faults.room_client import RoomClient
from tests.faults.rooms import (
    all_have,
    assert_all_saw_everything,
    following,
    last_event_seq,
    open_room,
    writing,
)

pytestmark = pytest.mark.faults

PROMISED_RECOVERY_SECONDS = promised(5.0)
PROMISED_EXIT_SECONDS = promised(10.0)
PROMISED_PRESENCE_SECONDS = promised(30.0)
# Without hints every session that is followed is looked at once a second.
LIVE_SECONDS = 2.5
RESTART = 1012


async def test_every_socket_sees_the_same_order(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    """20 writers, and 50 sockets: 25 people with one on each process."""
    for _ in range(rounds):
        room = await open_room(cluster, ledger, 25)
        clients = [RoomClient(member, room.session, url) for member in room.members for url in cluster.urls]
        async with following(clients):
            started = time.perf_counter()
            async with writing([*clients[:20:2], *clients[21:40:2]], most=10) as talk:
                pass
            count = await assert_all_saw_everything(ledger, room, clients, talk)
            seconds = time.perf_counter() - started
        assert count == 200
        latencies = talk.latencies(clients)
        measured(
            f"20 writers, 50 sockets, 2 processes: {count} messages in {seconds:.1f} s, each once and in the same order"
            f" everywhere, p99 {latencies[int(len(latencies) * 0.99)] * 1000:.0f} ms"
        )


async def test_random_disconnects_lose_and_double_nothing(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    wanted = 150 if rounds == 1 else 1000
    dice = random.Random(seed := secrets.randbits(32))
    room = await open_room(cluster, ledger, 20)
    clients = [RoomClient(member, room.session, *dice.sample(cluster.urls, 2)) for member in room.members]
    cuts = 0
    async with following(clients):
        async with writing(clients[:8], pause=0.01) as talk:
            while cuts < wanted:
                # Also one that is only just being made: anything may break at any moment.
                cuts += await dice.choice(clients).cut(dice)
                await asyncio.sleep(dice.expovariate(1 / 0.02))
        count = await assert_all_saw_everything(ledger, room, clients, talk)
    measured(f"{cuts} disconnects under load: {count} events, none lost, none doubled (seed {seed})")


async def test_kill_of_one_process_moves_its_clients_to_the_other(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    for _ in range(rounds):
        room = await open_room(cluster, ledger, 21)
        *movers, vanishing = room.members
        clients = [
            RoomClient(member, room.session, *(cluster.urls if index % 2 else reversed(cluster.urls)))
            for index, member in enumerate(movers)
        ]
        observer, victims = clients[1], clients[::2]
        pid = cluster.api_b.pid
        async with following(clients):
            gone = await _follow_until_killed(RoomClient(vanishing, room.session, cluster.urls[1]))
            assert await _is_online(observer, vanishing.id, expected=True, within=20)
            async with writing(clients[:10], pause=0.05) as talk:
                await asyncio.sleep(1.0)
                with cluster.api_b.away() as killed_at:
                    async with asyncio.timeout(2 * PROMISED_RECOVERY_SECONDS):
                        while min(client.caught_up_at for client in victims) < killed_at:
                            await asyncio.sleep(0.02)
                    caught_up = [client.caught_up_at - killed_at for client in victims]
                    await asyncio.sleep(1.0)  # and go on there
                    talk.stop()
                    # Nobody is back to say who has gone.
                    left = await _is_online(observer, vanishing.id, expected=False, within=PROMISED_PRESENCE_SECONDS)
                    seconds_online = left - killed_at
            count = await assert_all_saw_everything(ledger, room, clients, talk)
        await gone
        await asyncio.to_thread(cluster.api_b.wait_until_back, pid)
        measured(
            f"kill -9 of one of two processes: its {len(victims)} clients had everything {max(caught_up):.2f} s later"
            f" on the other, {count} events; who did not come back was online for {seconds_online:.1f} s"
        )
        assert max(caught_up) < PROMISED_RECOVERY_SECONDS
        assert 0 < seconds_online < PROMISED_PRESENCE_SECONDS


async def test_sigterm_tells_every_socket_to_come_back(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    """100 sockets on one process, some of which write at that moment."""
    here, there = cluster.urls
    for _ in range(rounds):
        room = await open_room(cluster, ledger, 25)
        clients = [RoomClient(member, room.session, there, here) for member in room.members for _ in range(4)]
        pid = cluster.api_b.pid
        async with following(clients):
            async with writing(clients[::10], pause=0.02) as talk:
                while len(talk.acknowledged) < 30:
                    await asyncio.sleep(0.02)
                asked_at = cluster.api_b.send(signal.SIGTERM)
                end = await asyncio.to_thread(cluster.api_b.wait_for_exit, pid, PROMISED_EXIT_SECONDS)
                # The process is gone; that a busy client has not read its last words yet says nothing about it.
                async with asyncio.timeout(20):
                    while not all(client.closed_with for client in clients):
                        await asyncio.sleep(0.02)
            count = await assert_all_saw_everything(ledger, room, clients, talk)
        await asyncio.to_thread(cluster.api_b.wait_until_back, pid)
        measured(f"SIGTERM with {len(clients)} sockets: out after {end.at - asked_at:.1f} s, {count} events in all")
        assert end.code == 0
        assert [client.closed_with[:1] for client in clients] == [[RESTART]] * len(clients)


async def test_rooms_stay_live_without_valkey(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    away_seconds = 3.0 if rounds == 1 else 10.0
    for _ in range(rounds):
        room = await open_room(cluster, ledger, 20)
        clients = [
            RoomClient(member, room.session, cluster.urls[index % 2]) for index, member in enumerate(room.members)
        ]
        pid = cluster.valkey.pid
        async with following(clients):
            # All on one process: the other hears of what they say from Valkey, or has to look.
            async with writing(clients[:12:2], pause=0.1) as talk:
                await asyncio.sleep(0.5)
                before = len(talk.acknowledged)
                with cluster.valkey.away():
                    went_at = time.perf_counter()
                    await asyncio.sleep(away_seconds)
                    sent_meanwhile = len(talk.acknowledged) - before
                    behind = await last_event_seq(ledger, room) - min(client.last_seq for client in clients)
                await asyncio.to_thread(cluster.valkey.wait_until_back, pid)
                back_at = time.perf_counter()
                there = await last_event_seq(ledger, room)
                await all_have(clients, there, within=PROMISED_RECOVERY_SECONDS)
                caught_up = time.perf_counter() - back_at
                # Until hints are heard again, what is sent is found by looking for it.
                await asyncio.sleep(2.0)
            count = await assert_all_saw_everything(ledger, room, clients, talk)
        meanwhile = talk.latencies(clients, since=went_at)
        measured(
            f"Valkey away for {away_seconds:.0f} s: {sent_meanwhile} messages sent meanwhile, {behind} not yet"
            f" everywhere at its return, all {caught_up:.2f} s after it; longest delivery {meanwhile[-1]:.2f} s,"
            f" {count} events"
        )
        assert sent_meanwhile > 6 * away_seconds
        assert all(not client.closed_with for client in clients), "a socket was closed"
        assert caught_up < PROMISED_RECOVERY_SECONDS
        assert meanwhile[-1] < LIVE_SECONDS


async def test_rooms_outlive_a_restart_of_postgresql(
    cluster: Cluster, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    for _ in range(rounds):
        room = await open_room(cluster, ledger, 12)
        clients = [
            RoomClient(member, room.session, *(cluster.urls if index % 2 else reversed(cluster.urls)))
            for index, member in enumerate(room.members)
        ]
        pid = cluster.postgres.pid
        async with following(clients):
            async with writing(clients[:6], pause=0.05) as talk:
                await asyncio.sleep(0.5)
                before = len(talk.acknowledged)
                cluster.postgres.kill()
                await asyncio.to_thread(cluster.postgres.wait_until_back, pid)
                back_at = time.perf_counter()
                there = await last_event_seq(ledger, room)
                await all_have(clients, there, within=PROMISED_RECOVERY_SECONDS)
                caught_up = time.perf_counter() - back_at
                await asyncio.sleep(0.5)
            count = await assert_all_saw_everything(ledger, room, clients, talk)
        measured(
            f"kill -9 of PostgreSQL: everybody had everything {caught_up:.2f} s after its return, {count} events,"
            f" {len(talk.acknowledged) - before} messages after the kill"
        )
        assert len(talk.acknowledged) > before


async def _follow_until_killed(client: RoomClient) -> asyncio.Task[None]:
    """A client that does not come back."""

    async def follow() -> None:
        following_it = asyncio.create_task(client.follow())
        while not client.closed_with:
            await asyncio.sleep(0.02)
        following_it.cancel()
        await asyncio.gather(following_it, return_exceptions=True)

    task = asyncio.create_task(follow())
    async with asyncio.timeout(30):
        await client.subscribed.wait()
    return task


async def _is_online(observer: RoomClient, person: str, *, expected: bool, within: float) -> float:
    """Wait until somebody is shown as online, or not; when that was, in seconds since the epoch."""
    give_up_at = time.monotonic() + within
    while observer.online.get(person, False) is not expected:
        assert time.monotonic() < give_up_at, f"after {within} s online is still {not expected}"
        await asyncio.sleep(0.02)
    return time.time()
