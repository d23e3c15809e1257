"""A stream that breaks anywhere and goes on anywhere is the same stream: the same bytes, once."""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
import redis.asyncio

from tests.faults import model_stats
from tests.faults.cluster import Cluster
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import API, Mode, Person, script
from tests.faults.streams import Event, Reader

pytestmark = pytest.mark.faults

# Every width UTF-8 has, a joined emoji, combining marks, line ends of all kinds, what SSE and JSON treat specially.
TEXT = (
    "Æther: naïve café — 日本語のテキスト 👩‍👩‍👧‍👦 🇨🇭 é́\n\nid: 7\nevent: run.failed\ndata: {}\n\n"
    "\\ud83d \u2028 \u2029 tab\there 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 مرحبا — and so it ends 🎉\n"
)
STREAMS = 24


async def test_streams_cut_at_random_places_join_to_the_stored_text(
    cluster: Cluster, somebody: Person, ledger: Ledger, rounds: int, measured: Measured
) -> None:
    seed = secrets.randbits(32)
    cuts = 0
    for _ in range(rounds):
        dice = random.Random(seed)
        sessions = [await somebody.session() for _ in range(STREAMS)]

        async def talk(session: str, number: int, dice: random.Random = dice) -> tuple[Reader, int]:
            content = script(TEXT, chunk=3, delay_ms=12, key=f"cut-{session}-{number}")
            return await somebody.stream(session, content, cut=random.Random(dice.random()))

        results = await asyncio.gather(*(talk(session, number) for number, session in enumerate(sessions)))
        for session, (reader, _) in zip(sessions, results, strict=True):
            reader.assert_gapless()
            assert reader.terminals == ["run.completed"], f"seed {seed}"
            (run,) = await ledger.runs([session])
            assert run["reply"].encode() == TEXT.encode()
            assert reader.joined.encode() == TEXT.encode(), f"seed {seed}"
            assert reader.final_text == TEXT
            assert run["stream_length"] == len(reader.events)
        cuts += sum(cut for _, cut in results)
        seed += 1
    measured(f"{cuts} cuts in {STREAMS * rounds} streams of {len(TEXT.encode())} bytes, none to be seen")
    assert cuts >= 100 * rounds


async def test_an_ended_run_is_told_from_any_event_on_any_replica(cluster: Cluster, somebody: Person) -> None:
    session = await somebody.session()
    reader, _ = await somebody.stream(session, script(TEXT, chunk=16, delay_ms=30), url=cluster.urls[0])
    reader.assert_gapless()
    run_id = str(reader.run_id)
    whole = reader.events

    for url in cluster.urls:
        for after in range(len(whole)):
            assert await _resumed(somebody, url, run_id, after) == whole[after:]
        assert await _resumed(somebody, url, run_id, len(whole)) is None


async def test_a_forgotten_stream_is_told_as_the_whole_reply(cluster: Cluster, somebody: Person) -> None:
    session = await somebody.session()
    reader, _ = await somebody.stream(session, script(TEXT, chunk=16, delay_ms=30), url=cluster.urls[0])
    run_id = str(reader.run_id)
    whole = reader.events
    length = len(whole)
    await _forget(cluster, run_id)

    elsewhere = cluster.urls[1]
    for after in (1, length // 2, length - 2):
        told = await _resumed(somebody, elsewhere, run_id, after)
        assert told is not None
        assert [event.type for event in told] == ["message.updated", "run.completed"]
        assert [event.id for event in told] == [length - 1, length]
        assert told[0].data["content"] == TEXT
    # From the beginning the message that is answered comes first.
    told = await _resumed(somebody, elsewhere, run_id, 0)
    assert told is not None
    assert [event.id for event in told] == [1, length - 1, length]
    # Only the terminal event is missing, or nothing at all.
    assert await _resumed(somebody, elsewhere, run_id, length - 1) == whole[-1:]
    assert await _resumed(somebody, elsewhere, run_id, length) is None


async def test_a_stream_forgotten_half_way_still_ends_with_the_whole_reply(
    cluster: Cluster, somebody: Person, ledger: Ledger
) -> None:
    session = await somebody.session()
    here, elsewhere = cluster.urls
    sent = await somebody.send(session, script("piece ", tokens=60, delay_ms=50), url=here)
    run_id = sent["run"]["id"]
    reader = Reader()
    async with _events(somebody, elsewhere, run_id, 0) as answer:
        async for chunk in answer.aiter_raw():
            reader.feed(chunk)
            if len(reader.of_type("message.delta")) == 5:
                break
    await _forget(cluster, run_id)
    # What was sent after the third event is in the log no more, what will be sent is.
    del reader.events[3:]
    before = await _transactions(ledger)
    async with _events(somebody, elsewhere, run_id, reader.last_id) as answer:
        reader.connected_anew()
        async for chunk in answer.aiter_raw():
            reader.feed(chunk)
    reader.assert_ended_once()
    assert reader.final_text == "piece " * 60
    # A hole in the log is no reason to ask without a pause: three processes alone make about 12 a second.
    assert await _transactions(ledger) - before < 300


async def test_without_valkey_streams_go_on_here_and_end_as_snapshots_elsewhere(
    cluster: Cluster, somebody: Person
) -> None:
    session = await somebody.session()
    here, elsewhere = cluster.urls
    pid = cluster.valkey.pid
    with cluster.valkey.away():
        content = script(TEXT, chunk=4, delay_ms=15)
        async with asyncio.TaskGroup() as both:
            direct = both.create_task(somebody.stream(session, content, url=here))
            sent = await somebody.send(await somebody.session(), content, url=here)
            followed = both.create_task(_whole_stream(somebody, elsewhere, sent["run"]["id"]))
        reader, breaks = direct.result()
        assert breaks == 0
        reader.assert_gapless()
        assert reader.joined == TEXT
        snapshot = followed.result()
        snapshot.assert_ended_once()
        assert [event.type for event in snapshot.events] == ["message.created", "message.updated", "run.completed"]
        assert snapshot.final_text == TEXT
        exchanged = await somebody.send(session, "Plain JSON works too", url=elsewhere, mode=Mode.JSON)
        assert exchanged["reply"]["content"] == "You said: Plain JSON works too"
    await asyncio.to_thread(cluster.valkey.wait_until_back, pid)

    # Runs that begin from now on are streamed from both again.
    await asyncio.sleep(1.1)  # a store that failed is left alone for a second
    sent = await somebody.send(session, script(TEXT, chunk=10, delay_ms=10), url=here)
    reader = await _whole_stream(somebody, elsewhere, sent["run"]["id"])
    reader.assert_gapless()
    assert reader.joined == TEXT


async def test_a_valkey_that_refuses_to_write_stops_no_stream(cluster: Cluster, somebody: Person) -> None:
    """A replica that was promoted away, or a full disk: reads work, writes are errors."""
    async with redis.asyncio.Redis.from_url(cluster.redis_url) as client:
        await client.config_set("min-replicas-to-write", 1)
        try:
            reader, breaks = await somebody.stream(
                await somebody.session(), script(TEXT, chunk=9, delay_ms=5), within=30
            )
        finally:
            await client.config_set("min-replicas-to-write", 0)
    assert breaks == 0
    reader.assert_gapless()
    assert reader.joined == TEXT


async def test_a_valkey_that_hangs_stops_no_run(cluster: Cluster, somebody: Person, ledger: Ledger) -> None:
    """Neither the one that is streamed, nor one whose process dies at that time."""
    session = await somebody.session()
    orphaned = await somebody.session()
    key = secrets.token_hex(8)
    content = script("again", first_delay_ms=60_000, times=1, key=key)
    sent = await somebody.send(orphaned, content, url=cluster.urls[1])
    await model_stats.begun(cluster, key)
    pid = cluster.api_b.pid
    with cluster.valkey.paused():
        cluster.api_b.kill()
        reader, _ = await somebody.stream(session, script(TEXT, chunk=9, delay_ms=5), within=30, url=cluster.urls[0])
        reader.assert_gapless()
        run = await somebody.run_ended(sent["run"]["id"])
        assert run["status"] == "completed"
    await asyncio.to_thread(cluster.api_b.wait_until_back, pid)
    await ledger.assert_whole(orphaned)


def _events(person: Person, url: str, run_id: str, after: int) -> AbstractAsyncContextManager[httpx.Response]:
    headers = person.headers | {"Last-Event-ID": str(after)}
    return person.http.stream("GET", f"{url}{API}/runs/{run_id}/events", headers=headers)


async def _resumed(person: Person, url: str, run_id: str, after: int) -> list[Event] | None:
    """What a replica tells after event `after`; None where there is nothing left to tell."""
    async with _events(person, url, run_id, after) as answer:
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200
        reader = Reader()
        async for chunk in answer.aiter_raw():
            reader.feed(chunk)
        return reader.events


async def _whole_stream(person: Person, url: str, run_id: str) -> Reader:
    """One connection from the first event to the last."""
    reader = Reader()
    async with _events(person, url, run_id, 0) as answer:
        async for chunk in answer.aiter_raw():
            reader.feed(chunk)
    return reader


async def _forget(cluster: Cluster, run_id: str) -> None:
    async with redis.asyncio.Redis.from_url(cluster.redis_url) as client:
        assert await client.delete(f"colloquy:run:{run_id.replace('-', '')}") == 1


async def _transactions(ledger: Ledger) -> int:
    count: int = await ledger.value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return count
