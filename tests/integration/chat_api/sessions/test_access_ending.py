"""What somebody hears of a session ends when they take part in it no more: on streams, and on answers waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest

from chat_api.sessions.access import AccessWatch, Membership
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, parse_events, problem
from tests.fakes.agent import Gate
from tests.stores import Database

Removal = Callable[[ChatApi, Json, Person, Person], Awaitable[None]]


async def removed(chat: ChatApi, session: Json, owner: Person, person: Person) -> None:
    answer = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{person.id}", headers=owner.headers)
    assert answer.status_code == 204, answer.text


async def left(chat: ChatApi, session: Json, _: Person, person: Person) -> None:
    await removed(chat, session, person, person)


async def deleted(chat: ChatApi, session: Json, owner: Person, _: Person) -> None:
    answer = await chat.client.delete(f"{API}/sessions/{session['id']}", headers=owner.headers)
    assert answer.status_code == 204, answer.text


@asynccontextmanager
async def beside(chat: ChatApi, database: Database, redis_url: str | None) -> AsyncIterator[ChatApi]:
    """Another process of the API, that knows the same people."""
    async with chat_api(database.api_url, redis_url) as other:
        other.people = chat.people
        yield other


async def ended(*streams: asyncio.Task[httpx.Response]) -> list[httpx.Response]:
    done, _ = await asyncio.wait(streams, timeout=30)
    assert len(done) == len(streams), f"{len(streams) - len(done)} go on"
    return [stream.result() for stream in streams]


class Listening:
    """A room in which the assistant has begun to speak, and whoever listens to it."""

    def __init__(self, chat: ChatApi, session: Json, gate: Gate, run_id: str) -> None:
        self.chat, self.session, self.gate, self.run_id = chat, session, gate, run_id

    def follow(self, chat: ChatApi, person: Person) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(chat.client.get(f"{API}/runs/{self.run_id}/events", headers=person.headers))


@pytest.fixture
async def room(chat: ChatApi, ann: Person, bob: Person) -> AsyncIterator[Listening]:
    session = await chat.session(ann, reply_policy="always")
    await chat.join(session, bob)
    chat.agent.script = gate = Gate()
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    yield Listening(chat, session, gate, accepted["run"]["id"])
    gate.opened.set()


def open_streams(chat: ChatApi, person: Person, session: Json) -> int:
    watch: AccessWatch = chat.app.state.access
    return watch.count(Membership(UUID(session["id"]), person.id))


async def heard(chat: ChatApi, *people: Person, session: Json, streams: int = 1) -> None:
    """Return when each of these people has so many streams open."""
    async with asyncio.timeout(30):
        while any(open_streams(chat, person, session) != streams for person in people):
            await asyncio.sleep(0.01)


@pytest.fixture
async def nobody_looks(chat: ChatApi) -> None:
    """What ends now ends because it was told, at once, and not because somebody looks twice a second."""
    await chat.app.state.access.close()


@pytest.mark.usefixtures("nobody_looks")
@pytest.mark.parametrize("goes", [removed, left])
async def test_a_stream_ends_at_once(chat: ChatApi, ann: Person, bob: Person, room: Listening, goes: Removal) -> None:
    his, hers = room.follow(chat, bob), room.follow(chat, ann)
    await heard(chat, ann, bob, session=room.session)

    await goes(chat, room.session, ann, bob)
    [answer] = await ended(his)

    assert answer.status_code == 200
    assert {event.type for event in parse_events(answer.content)} <= {"message.created", "run.started", "message.delta"}
    room.gate.opened.set()
    [answer] = await ended(hers)
    assert parse_events(answer.content)[-1].type == "run.completed"


@pytest.mark.usefixtures("nobody_looks")
async def test_nothing_is_heard_of_what_is_said_afterwards(
    chat: ChatApi, ann: Person, bob: Person, room: Listening
) -> None:
    his = room.follow(chat, bob)
    await heard(chat, bob, session=room.session)

    await removed(chat, room.session, ann, bob)
    room.gate.opened.set()
    [answer] = await ended(his)

    assert " far." not in answer.text
    assert "run.completed" not in answer.text


@pytest.mark.usefixtures("nobody_looks")
async def test_the_streams_of_a_deleted_session_end(chat: ChatApi, ann: Person, bob: Person, room: Listening) -> None:
    streams = room.follow(chat, bob), room.follow(chat, ann)
    await heard(chat, ann, bob, session=room.session)

    await deleted(chat, room.session, ann, bob)

    for answer in await ended(*streams):
        assert not any(event.type.startswith("run.c") for event in parse_events(answer.content))


@pytest.mark.parametrize("goes", [removed, deleted])
async def test_what_another_process_did_ends_streams(
    chat: ChatApi,
    ann: Person,
    bob: Person,
    room: Listening,
    goes: Removal,
    clean_database: Database,
    redis_url: str,
) -> None:
    async with beside(chat, clean_database, redis_url) as other:
        streams = room.follow(chat, bob), room.follow(other, bob)
        await heard(chat, bob, session=room.session)
        await heard(other, bob, session=room.session)

        await goes(other, room.session, ann, bob)

        await ended(*streams)


@pytest.mark.usefixtures("nobody_looks")
async def test_streaming_and_waiting_for_ones_own_message_end_too(
    chat: ChatApi, ann: Person, bob: Person, room: Listening
) -> None:
    streamed = asyncio.create_task(chat.send(bob, room.session, "A", headers={"Accept": "text/event-stream"}))
    waited = asyncio.create_task(chat.send(bob, room.session, "B"))
    await heard(chat, bob, session=room.session, streams=2)

    await removed(chat, room.session, ann, bob)
    first, second = await ended(streamed, waited)

    assert [event.type for event in parse_events(first.content)] == ["message.created"]
    assert problem(second) == (404, "session-not-found")
    assert {message["content"] for message in await chat.history(ann, room.session)} >= {"A", "B"}


async def test_nothing_stays_behind(chat: ChatApi, ann: Person, bob: Person, room: Listening) -> None:
    his = room.follow(chat, bob)
    await heard(chat, bob, session=room.session)
    his.cancel()
    await asyncio.wait([his])
    room.gate.opened.set()
    await chat.said(ann, room.session)
    await chat.stream(ann, room.session)

    for person in (ann, bob):
        assert open_streams(chat, person, room.session) == 0
