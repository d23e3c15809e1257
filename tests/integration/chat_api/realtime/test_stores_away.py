"""What sockets see when PostgreSQL or Valkey is gone, hangs, or comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.factories.chat import ChatApi, Person, chat_api
from tests.factories.sockets import connected
from tests.factories.store_lines import StoreLine, store_line
from tests.stores import Database


@dataclass(frozen=True)
class Process:
    chat: ChatApi
    postgres: StoreLine
    valkey: StoreLine


@pytest.fixture
async def process(clean_database: Database, redis_url: str) -> AsyncIterator[Process]:
    async with (
        store_line(clean_database.api_url) as postgres,
        store_line(redis_url) as valkey,
        chat_api(postgres.url, valkey.url, ws_sweep_seconds=0.2, redis_command_seconds=0.5) as chat,
    ):
        yield Process(chat, postgres, valkey)


@pytest.fixture
async def ann(process: Process) -> Person:
    return await process.chat.person("ann")


async def test_without_postgresql_a_frame_is_refused_and_the_socket_stays(process: Process, ann: Person) -> None:
    session = await process.chat.session(ann, reply_policy="never")
    async with connected(process.chat, ann) as client:
        await process.postgres.refuse()
        for kind, fields in (
            ("subscribe", {}),
            ("read", {"seq": 1}),
            ("message.send", {"client_id": "a", "content": "x"}),
        ):
            client.say(kind, session_id=session["id"], **fields)
            error = await client.expect("error")
            assert (error["problem"]["status"], error["in_reply_to"]["type"]) == (503, kind)
            assert error["retry_after"] is not None
        await process.postgres.open()
        await client.subscribe(session)
        await process.chat.said(ann, session, "back")
        assert (await client.expect("message.created"))["data"]["content"] == "back"
    assert process.chat.app.state.gateway.hub.room_count == 0


async def test_without_postgresql_nobody_is_let_in_and_they_hear_why(process: Process, ann: Person) -> None:
    session = await process.chat.session(ann, reply_policy="never")
    token = ann.headers["Authorization"].removeprefix("Bearer ")
    await process.postgres.refuse()
    async with connected(process.chat, None, f"/ws/sessions/{session['id']}") as client:
        client.say("authenticate", token=token)
        assert (await client.expect("error"))["problem"]["status"] == 503
        assert await client.closed() == 1011
    await process.postgres.open()
    assert process.chat.app.state.gateway.socket_count == 0


async def test_followers_catch_up_after_postgresql_was_cut(process: Process, ann: Person) -> None:
    session = await process.chat.session(ann, reply_policy="never")
    async with connected(process.chat, ann) as client:
        subscribed = await client.subscribe(session)
        for number in range(6):
            if number % 2:
                process.postgres.cut()
            client.say("message.send", session_id=session["id"], client_id=str(number), content=str(number))
            answer = await client.frame()
            while answer["type"] not in ("ack", "error"):
                answer = await client.frame()
            if answer["type"] == "error":
                client.say("message.send", session_id=session["id"], client_id=str(number), content=str(number))
                await client.expect("ack")
        while len(client.events(session)) < 6:
            await client.frame()
        numbers = [event["event_seq"] for event in client.events(session)]
        assert numbers == [subscribed["last_event_seq"] + number for number in range(1, 7)]


async def test_a_hanging_valkey_holds_nobody_up(process: Process, ann: Person) -> None:
    sessions = [await process.chat.session(ann, reply_policy="never") for _ in range(24)]
    async with connected(process.chat, ann) as client:
        process.valkey.hang()
        began = time.monotonic()
        for session in sessions:
            await client.subscribe(session)
        assert time.monotonic() - began < 8, "each has waited for it"
        await process.chat.said(ann, sessions[0], "anyway")
        await client.expect("message.created")
    process.valkey.go_on()


async def test_a_hanging_valkey_is_noticed_and_the_sweep_takes_over(
    process: Process, ann: Person, clean_database: Database, redis_url: str
) -> None:
    session = await process.chat.session(ann, reply_policy="never")
    async with (
        chat_api(clean_database.api_url, redis_url, ws_sweep_seconds=0.2) as elsewhere,
        connected(process.chat, ann) as client,
    ):
        await client.subscribe(session)
        await asyncio.sleep(0.2)
        process.valkey.hang()
        listener = process.chat.app.state.gateway.hub._listener
        async with asyncio.timeout(30):
            while listener.is_connected:
                await asyncio.sleep(0.1)
        await elsewhere.said(ann, session, "found by looking")
        assert (await client.expect("message.created", 30))["data"]["content"] == "found by looking"
        process.valkey.go_on()


async def test_sockets_and_rooms_end_soon_although_both_hang(process: Process, ann: Person) -> None:
    gateway = process.chat.app.state.gateway
    session = await process.chat.session(ann, reply_policy="never")
    async with connected(process.chat, ann) as client:
        await client.subscribe(session)
        await asyncio.sleep(0.1)
        process.postgres.hang()
        process.valkey.hang()
        await asyncio.sleep(0.5)  # until the sweep waits for PostgreSQL
        began = time.monotonic()
        gateway.stop()
        assert await client.closed() == 1012
        await gateway.close()
        assert time.monotonic() - began < 15
        process.postgres.go_on()
        process.valkey.go_on()
