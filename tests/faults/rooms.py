"""People, the room they are in, what they write there, and what all of them must have seen in the end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from chat_api.kit.models import new_id
from tests.faults.accounts import Member, Signing, add_people
from tests.faults.ledger import Ledger
from tests.faults.room_client import RoomClient


@dataclass(frozen=True)
class Room:
    session: str
    members: Sequence[Member]


async def open_room(services: Signing, ledger: Ledger, people: int) -> Room:
    """A session of people alone, as rows."""
    members = await add_people(services, ledger, people)
    ids = [UUID(member.id) for member in members]
    session = new_id()
    await ledger.rows(
        "INSERT INTO chat.sessions (id, owner_id, title, reply_policy, participant_count)"
        " VALUES ($1, $2, 'faults', 'never', $3)",
        session,
        ids[0],
        people,
    )
    await ledger.rows(
        "INSERT INTO chat.participants (session_id, user_id, role)"
        " SELECT $1, id, CASE WHEN id = $3 THEN 'owner' ELSE 'member' END FROM unnest($2::uuid[]) AS p (id)",
        session,
        ids,
        ids[0],
    )
    return Room(str(session), members)


@asynccontextmanager
async def following(clients: Sequence[RoomClient]) -> AsyncIterator[None]:
    """All clients follow their rooms for the time of the block, and raise what they should not have been told."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.follow()) for client in clients]
        async with asyncio.timeout(40):
            for client in clients:
                await client.subscribed.wait()
        yield
        for task in tasks:
            task.cancel()


@dataclass
class Talk:
    """What some clients write: by client id, what was acknowledged as which message, and when it was sent."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    sent_at: dict[str, float] = field(default_factory=dict)
    """`time.perf_counter()`"""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        self._stop.set()

    async def write(self, client: RoomClient, writer: str, *, most: int | None, pause: float, length: int) -> None:
        """One message after the other, each until it is acknowledged."""
        for number in itertools.count() if most is None else range(most):
            if self._stop.is_set():
                return
            client_id = f"{writer}-{number}"
            self.sent_at[client_id] = time.perf_counter()
            message = await client.say(client_id, f"{client_id} — «Grüße», 你好 ".ljust(length, "."))
            self.acknowledged[client_id] = message
            if pause:
                await asyncio.sleep(pause)

    def latencies(self, clients: Iterable[RoomClient], since: float = 0.0) -> list[float]:
        """Seconds from a send to each client that saw it, in rising order, of what was sent at `since` or later."""
        return sorted(
            event.received_at - self.sent_at[event.client_id]
            for client in clients
            for event in client.events
            if event.client_id in self.sent_at and self.sent_at[event.client_id] >= since
        )


@asynccontextmanager
async def writing(
    writers: Sequence[RoomClient], *, most: int | None = None, pause: float = 0.0, length: int = 0
) -> AsyncIterator[Talk]:
    """All of them write during the block, or `most` messages each; everything begun is acknowledged at its end.

    `pause` is what each waits between two messages, in seconds; `length` how long a message is at least.
    """
    talk = Talk()
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(writers):
            group.create_task(talk.write(client, f"w{number}", most=most, pause=pause, length=length))
        try:
            yield talk
        finally:
            if most is None:
                talk.stop()


async def all_have(clients: Iterable[RoomClient], event_seq: int, within: float) -> None:
    """Return when every client has the events up to `event_seq`."""
    give_up_at = time.monotonic() + within
    for client in clients:
        while client.last_seq < event_seq:
            assert time.monotonic() < give_up_at, f"after {within} s one has {client.last_seq} of {event_seq} events"
            await asyncio.sleep(0.01)


async def last_event_seq(ledger: Ledger, room: Room) -> int:
    number: int = await ledger.value("SELECT last_event_seq FROM chat.sessions WHERE id = $1", UUID(room.session))
    return number


async def assert_all_saw_everything(
    ledger: Ledger, room: Room, clients: Sequence[RoomClient], talk: Talk, within: float = 20.0
) -> int:
    """Every socket saw every event once, in PostgreSQL's order, and every acknowledged message is among them.

    Returns how many events that were.
    """
    rows = await ledger.rows(
        "SELECT event_seq, type, message_id FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq",
        UUID(room.session),
    )
    stored = [(row["event_seq"], row["type"], str(row["message_id"])) for row in rows]
    assert [event_seq for event_seq, _, _ in stored] == list(range(1, len(stored) + 1))
    assert len({message for _, _, message in stored}) == len(stored), "these rooms have one event for each message"
    await all_have(clients, len(stored), within)
    for client in clients:
        assert [(event.event_seq, event.type, event.message_id) for event in client.events] == stored
    await ledger.assert_stored_once(room.session, talk.acknowledged)
    return len(stored)
