"""How sockets end: a restart, a reader that does not keep up, a credential that is no longer good."""

from __future__ import annotations

import asyncio

import pytest

from tests.factories.chat import API, ChatApi, Person, chat_api
from tests.factories.sockets import SocketClosed, connected
from tests.stores import Database


async def test_a_restart_tells_every_socket(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    async with connected(chat, ann) as following, connected(chat, ann) as idle, connected(chat, None) as nobody:
        await following.subscribe(session)
        following.say("message.send", session_id=session["id"], client_id="a1", content="just in time")
        chat.app.state.gateway.stop()
        codes = [await client.closed() for client in (following, idle, nobody)]
        assert codes == [1012, 1012, 1012]
        stored = [message["content"] for message in await chat.history(ann, session)]
        acknowledged = [frame["message"]["content"] for frame in following.frames if frame["type"] == "ack"]
        assert [text for text in acknowledged if text not in stored] == []
        with pytest.raises(SocketClosed, match="1012"):
            async with connected(chat, ann):
                pass


async def test_who_does_not_read_is_closed_and_recovers(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, ws_queue_bytes=65_536) as chat:
        ann = await chat.person("ann")
        session = await chat.session(ann, reply_policy="never")
        async with connected(chat, ann) as slow, connected(chat, ann) as quick:
            for client in (slow, quick):
                await client.subscribe(session)
            slow.reading.clear()
            for number in range(10):
                await chat.said(ann, session, f"{number}" * 10_000)
                await quick.expect("message.created")
            slow.reading.set()
            assert await slow.closed() == 4408
        seen = max([event["event_seq"] for event in slow.events(session)], default=0)
        assert seen < 10
        async with connected(chat, ann) as again:
            await again.subscribe(session, after_seq=seen)
            missed = [await again.expect("message.created") for _ in range(10 - seen)]
            assert [event["event_seq"] for event in missed] == list(range(seen + 1, 11))


async def test_a_reader_that_takes_nothing_is_noticed_without_much_to_take(
    clean_database: Database, redis_url: str
) -> None:
    async with chat_api(clean_database.api_url, redis_url, ws_stall_seconds=0.3) as chat:
        ann = await chat.person("ann")
        session = await chat.session(ann, reply_policy="never")
        async with connected(chat, ann) as client:
            await client.subscribe(session)
            client.reading.clear()
            await chat.said(ann, session, "one small message")
            await asyncio.sleep(1.2)
            client.reading.set()
            assert await client.closed() == 4408


async def test_a_closed_account_loses_its_sockets(chat: ChatApi, ann: Person, bob: Person) -> None:
    async with connected(chat, ann) as hers, connected(chat, bob) as his:
        await chat.rows("UPDATE chat.users SET is_active = false WHERE id = $1", ann.id)
        await chat.app.state.gateway.recheck()
        assert await hers.closed() == 4401
        his.say("ping")
        await his.expect("pong")


async def test_a_revoked_key_loses_its_sockets(chat: ChatApi, ann: Person) -> None:
    body = {"name": "live", "scopes": ["chat:read"]}
    key = (await chat.client.post(f"{API}/api-keys", json=body, headers=ann.headers)).json()
    session = await chat.session(ann)
    program = Person(ann.id, ann.username, {"Authorization": f"Bearer {key['key']}"})
    async with connected(chat, program) as client:
        await client.subscribe(session)
        client.say("message.send", session_id=session["id"], client_id="a1", content="no")
        error = await client.expect("error")
        assert error["problem"]["code"] == "insufficient-scope"
        assert error["in_reply_to"] == {
            "type": "message.send", "session_id": session["id"], "client_id": "a1", "run_id": None,
            "execution_id": None,
        }  # fmt: skip
        await chat.client.delete(f"{API}/api-keys/{key['id']}", headers=ann.headers)
        await chat.app.state.gateway.recheck()
        assert await client.closed() == 4401


async def test_one_person_has_so_many_sockets_and_no_more(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, ws_sockets_per_user=2) as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        async with connected(chat, ann), connected(chat, bob):
            async with connected(chat, ann), connected(chat, None) as third:
                third.say("authenticate", token=ann.headers["Authorization"].removeprefix("Bearer "))
                error = await third.expect("error")
                assert (error["problem"]["code"], error["retry_after"] > 0) == ("too-many-sockets", True)
                with pytest.raises(SocketClosed) as closed:
                    await third.frame()
                assert closed.value.code == 4429
            async with connected(chat, ann) as again:
                again.say("ping")
                await again.expect("pong")
