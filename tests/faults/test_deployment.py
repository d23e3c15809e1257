"""The deployment that is shipped: through nginx streams pass as they come, and a restart loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect

from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment
from tests.faults.ledger import Ledger
from tests.faults.load import load, reply_to
from tests.faults.person import API, Person, person, script
from tests.faults.promises import promised
from tests.faults.room_client import RoomClient
from tests.faults.rooms import all_have, following, last_event_seq, open_room, writing
from tests.faults.streams import Reader

pytestmark = pytest.mark.faults

PROMISED_EXIT_SECONDS = promised(10.0)
FORBIDDEN = 4403
PIECES = 20
PACE_MS = 100
# Longer than it takes a busy machine to end a process.
LONG_REPLY = " ".join(f"word{number}" for number in range(60))
LONG_PACE_MS = 100


@pytest.fixture(scope="module")
def deployment(worker_number: int) -> Iterator[Deployment]:
    with Deployment(Path(os.environ["COLLOQUY_DATA_DIR"]).parent / f"deployment-{worker_number}") as deployment:
        yield deployment


@pytest.fixture
async def customer(deployment: Deployment) -> AsyncIterator[Person]:
    """Somebody who knows of nginx alone."""
    async with person(deployment.url) as anybody:
        yield anybody


@pytest.fixture
async def records(deployment: Deployment) -> AsyncIterator[Ledger]:
    async with asyncpg.create_pool(deployment.dsn, min_size=0, max_size=4) as pool:
        yield Ledger(pool)


async def test_server_sent_events_pass_as_they_come(customer: Person, measured: Measured) -> None:
    session = await customer.session()
    reader = Reader()
    arrived: list[float] = []
    async with customer.streaming(reader, session, script(tokens=PIECES, delay_ms=PACE_MS), "one") as answer:
        assert answer.status_code == 200
        async for data in answer.aiter_raw():
            before = len(reader.of_type("message.delta"))
            reader.feed(data)
            arrived += [time.monotonic()] * (len(reader.of_type("message.delta")) - before)
    reader.assert_gapless()
    portions = _assert_spread(arrived)
    measured(f"through nginx: a reply in {portions} portions over {arrived[-1] - arrived[0]:.1f} s")


async def test_websockets_pass_as_they_come(deployment: Deployment, customer: Person) -> None:
    session = await customer.session()
    arrived: list[float] = []
    url = f"{deployment.url.replace('http', 'ws', 1)}{API}/ws/sessions/{session}"
    # The origin of a page that nginx itself would serve: it is compared with the name that the browser asked for.
    async with connect(url, origin=deployment.url, proxy=None) as socket:  # type: ignore[arg-type]  # any text is one
        token = customer.headers["Authorization"].removeprefix("Bearer ")
        await socket.send(json.dumps({"type": "authenticate", "token": token}))
        content = script(tokens=PIECES, delay_ms=PACE_MS)
        message = {"type": "message.send", "session_id": session, "client_id": "one", "content": content}
        frame: dict[str, Any] = {"type": ""}
        while frame["type"] != "run.completed":
            frame = json.loads(await socket.recv())
            if frame["type"] == "subscribed":
                await socket.send(json.dumps(message))
            elif frame["type"] == "message.delta":
                arrived.append(time.monotonic())
    _assert_spread(arrived)
    async with connect(url, origin="https://elsewhere.example", proxy=None) as socket:  # type: ignore[arg-type]  # the same
        async with asyncio.timeout(10):
            await socket.wait_closed()
        assert socket.close_code == FORBIDDEN


async def test_what_nginx_passes_on_and_what_it_keeps(deployment: Deployment, customer: Person) -> None:
    large = b'{"title": "' + b"a" * 3_000_000 + b'"}'
    json_headers = customer.headers | {"Content-Type": "application/json", "X-Request-ID": "of-the-test"}
    answer = await customer.http.post(f"{deployment.url}{API}/sessions", content=large, headers=json_headers)
    assert (answer.status_code, answer.json()["request_id"]) == (413, "of-the-test")

    assert (await customer.http.get(f"{deployment.compose.url('api-1')}/metrics")).status_code == 200
    hidden = await customer.http.get(f"{deployment.url}/metrics")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "not-found")

    upload = await customer.persist(
        "POST", "/attachments", files={"file": ("note.txt", b"kept by both APIs", "text/plain")}
    )
    for _ in range(4):  # so that both are asked
        kept = await customer.persist("GET", f"/attachments/{upload.json()['id']}")
        assert kept.content == b"kept by both APIs"

    secret = "ticket-that-no-log-may-show"
    await customer.http.get(f"{deployment.url}{API}/sessions?ticket={secret}")
    lines = deployment.requests()
    assert {line["path"] for line in lines} >= {f"{API}/sessions", f"{API}/attachments"}
    assert secret not in deployment.log("nginx")
    ports = {str(deployment.compose.ports[name]) for name in ("api-1", "api-2")}
    assert {line["upstream"].rpartition(":")[2] for line in lines} >= ports
    metrics = await customer.http.get(f"{deployment.compose.url('worker')}/metrics")
    assert 'dependency_up{dependency="database"} 1.0' in metrics.text


async def test_a_restart_under_load_loses_nothing(
    deployment: Deployment, customer: Person, records: Ledger, rounds: int, measured: Measured
) -> None:
    """12 writers in 4 sessions, by JSON, streams and 202, and a room of two over WebSockets, while an API restarts."""
    requests_before = len(deployment.requests())
    room = await open_room(deployment, records, 2)
    clients = [RoomClient(member, room.session, deployment.url) for member in room.members]
    async with following(clients):
        async with load(customer) as running, writing(clients, pause=0.05) as talk:
            for number in range(rounds):
                goes, stays = ("api-1", "api-2") if number % 2 == 0 else ("api-2", "api-1")
                reader = Reader()
                followed = asyncio.create_task(_followed(reader, customer, deployment, on=goes, answered_by=stays))
                while not reader.of_type("message.delta") and not followed.done():
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.5)
                measured(f"{goes} was out {await _restart(deployment, goes):.1f} s after SIGTERM")
                back_since = len(deployment.requests())
                assert await followed >= 2
                reader.assert_gapless()
                assert reader.joined == reader.final_text == LONG_REPLY
                await asyncio.sleep(1)
        await all_have(clients, await last_event_seq(records, room), within=20)

    runs = await records.all_ended(running.sessions, within=30)
    assert {run["status"] for run in runs} <= {"completed", "failed"}
    assert {run["error_code"] for run in runs if run["status"] == "failed"} <= {"run-interrupted"}
    for session in running.sessions:
        await records.assert_whole(session)
        await records.assert_stored_once(session, running.acknowledged[session])
    await records.assert_stored_once(room.session, talk.acknowledged)
    for name, reader in running.streamed.items():
        client_id = name.removesuffix(reader.events[0].data["session_id"])
        reader.assert_gapless()
        assert reader.joined == reader.final_text, name
        if reader.terminals == ["run.completed"]:
            assert reader.joined == reply_to(client_id)
    for client in clients:
        assert [seen.event_seq for seen in client.events] == list(range(1, client.last_seq + 1))
        assert {seen.client_id for seen in client.events} >= talk.acknowledged.keys()
    # Those that were on it were told to go on elsewhere.
    assert set(clients[0].closed_with + clients[1].closed_with) <= {1012}
    since = deployment.requests()[requests_before:]
    resumed = [request for request in since if request["path"].endswith("/events") and request["status"] == 200]
    assert resumed
    async with asyncio.timeout(30):  # until nginx knows that it is back: it leaves one that refused alone for a while
        while str(deployment.compose.ports[goes]) not in _served(deployment, back_since):
            answers = [customer.http.get(f"{deployment.url}{API}/sessions") for _ in range(4)]
            await asyncio.gather(*answers)
            await asyncio.sleep(0.2)
    repeated = sum(request["status"] == 503 for request in since)
    measured(
        f"{running.count} messages in sessions, {len(talk.acknowledged)} in the room, each there once;"
        f" {len(resumed)} streams resumed, {repeated} requests of {len(since)} to be repeated"
    )


def _served(deployment: Deployment, since: int) -> set[str]:
    """The ports of those that nginx passed requests on to."""
    return {request["upstream"].rpartition(":")[2] for request in deployment.requests()[since:]}


async def test_with_no_api_at_all_nginx_answers_with_a_problem(deployment: Deployment, customer: Person) -> None:
    for name in ("api-1", "api-2"):
        deployment.ask_to_stop(name)
    for name in ("api-1", "api-2"):
        await _ended(deployment, name)
    answer = await customer.http.get(f"{deployment.url}{API}/sessions", headers={"X-Request-ID": "of-the-test"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert (answer.json()["code"], answer.json()["request_id"]) == ("service-unavailable", "of-the-test")
    for name in ("api-1", "api-2"):
        deployment.start(name)


def _assert_spread(arrived: list[float]) -> int:
    """In how many portions the pieces came. A proxy that collects them would hand them over in one or two."""
    portions = 1 + sum(later - earlier > PACE_MS / 1000 / 4 for earlier, later in pairwise(arrived))
    assert portions > PIECES // 3
    return portions


async def _followed(reader: Reader, customer: Person, deployment: Deployment, *, on: str, answered_by: str) -> int:
    """A run of the process that stays, followed on the one that goes, then through nginx; over how many connections."""
    session = await customer.session()
    content = script(LONG_REPLY, delay_ms=LONG_PACE_MS)
    sent = await customer.send(session, content, url=deployment.compose.url(answered_by))
    path = f"{API}/runs/{sent['run']['id']}/events"
    connections, url = 0, deployment.compose.url(on)
    async with asyncio.timeout(60):
        while not reader.ended:
            reader.connected_anew()
            headers = customer.headers | {"Last-Event-ID": str(reader.last_id)}
            try:
                async with customer.http.stream("GET", url + path, headers=headers) as answer:
                    connections += answer.status_code == 200
                    async for data in answer.aiter_raw():
                        if answer.status_code == 200:
                            reader.feed(data)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            url = deployment.url
    return connections


async def _restart(deployment: Deployment, name: str) -> float:
    """SIGTERM, and a new one once it has ended. Seconds until it had."""
    asked_at = time.monotonic()
    deployment.ask_to_stop(name)
    await _ended(deployment, name)
    seconds = time.monotonic() - asked_at
    # In this thread: its death would be theirs.
    deployment.start(name)
    await asyncio.to_thread(deployment.wait_until_healthy, [name])
    return seconds


async def _ended(deployment: Deployment, name: str) -> None:
    async with asyncio.timeout(PROMISED_EXIT_SECONDS):
        while (code := deployment.exit_code(name)) is None:
            await asyncio.sleep(0.02)
    assert code == 0
