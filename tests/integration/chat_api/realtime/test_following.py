"""Following sessions: on one process and on two, with hints and without, until one may no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.factories.chat import API, ChatApi, Person, chat_api
from tests.factories.sockets import SocketClient, SocketClosed, connected
from tests.fakes.agent import Gate
from tests.stores import Database


@pytest.fixture
async def two(clean_database: Database, redis_url: str) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    """Two processes of the chat API, as far as they know, with a sweep that is too rare to help."""
    async with (
        chat_api(clean_database.api_url, redis_url, ws_sweep_seconds=30) as here,
        chat_api(clean_database.api_url, redis_url, ws_sweep_seconds=30) as there,
    ):
        yield here, there


async def remove(chat: ChatApi, owner: Person, session: dict[str, str], person: Person) -> None:
    answer = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{person.id}", headers=owner.headers)
    assert answer.status_code == 204, answer.text


async def contents(client: SocketClient, count: int) -> list[str]:
    return [(await client.expect("message.created"))["data"]["content"] for _ in range(count)]


async def test_another_process_hears_by_hint(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann = await here.person("ann")
    session = await here.session(ann, reply_policy="never")
    async with connected(there, ann) as client:
        await client.subscribe(session)
        await asyncio.sleep(0.2)  # until its channel is followed; a message before that is found by looking
        await here.said(ann, session, "over there")
        assert await contents(client, 1) == ["over there"]


async def test_a_message_before_the_channel_is_followed_is_not_lost(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann = await here.person("ann")
    session = await here.session(ann, reply_policy="never")
    async with connected(there, ann) as client:
        client.say("subscribe", session_id=session["id"], after_seq=0)
        await here.said(ann, session, "at once")
        assert await contents(client, 1) == ["at once"]


async def test_a_reply_grows_on_another_process(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann = await here.person("ann")
    session = await here.session(ann)
    gate = Gate(first="Over", rest=" there.")
    here.agent.script = gate
    async with connected(there, ann) as client:
        await client.subscribe(session)
        await here.send_async(ann, session)
        delta = await client.expect("message.delta")
        assert (delta["data"]["offset"], delta["data"]["text"]) == (0, "Over")
        async with connected(there, ann) as late:
            await late.subscribe(session)
            assert (await late.expect("message.delta"))["data"]["text"] == "Over"
        gate.opened.set()
        updated = await client.expect("message.updated")
        assert updated["data"]["content"] == "Over there."
        await client.expect("run.completed")
        await client.silence()


async def test_without_redis_the_sweep_finds_what_others_wrote(clean_database: Database) -> None:
    async with (
        chat_api(clean_database.api_url, None, ws_sweep_seconds=0.1) as here,
        chat_api(clean_database.api_url, None, ws_sweep_seconds=0.1) as there,
    ):
        ann = await here.person("ann")
        session = await here.session(ann, reply_policy="never")
        async with connected(there, ann) as client:
            await client.subscribe(session)
            await here.said(ann, session, "slow but sure")
            assert await contents(client, 1) == ["slow but sure"]


async def test_too_much_was_missed(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, ws_replay_events=2) as chat:
        ann = await chat.person("ann")
        session = await chat.session(ann, reply_policy="never")
        for text in ("one", "two", "three"):
            await chat.said(ann, session, text)
        async with connected(chat, ann) as client:
            for after, recovered in ((0, False), (1, True), (3, True), (4, False)):
                subscribed = await client.subscribe(session, after_seq=after)
                assert (subscribed["recovered"], subscribed["last_event_seq"]) == (recovered, 3)
                assert (
                    await contents(client, 3 - after if recovered else 0) == ["one", "two", "three"][after:] * recovered
                )
                await client.silence(0.05)


async def test_events_of_a_cleared_history_have_numbers_and_no_text(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    said = await chat.said(ann, session, "forget this")
    cleared = await chat.client.delete(f"{API}/sessions/{session['id']}/messages", headers=ann.headers)
    assert cleared.status_code == 204
    async with connected(chat, ann) as client:
        await client.subscribe(session, after_seq=0)
        gone = await client.expect("message.deleted")
        assert gone["event_seq"] == 1
        assert gone["data"] == {
            "id": said["message"]["id"], "session_id": session["id"], "seq": None, "deleted_at": None,
        }  # fmt: skip
        assert (await client.expect("session.updated"))["event_seq"] == 2
    assert "forget this" not in str(client.frames)


async def test_removed_people_hear_nothing_more(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann, bob = await here.person("ann"), await here.person("bob")
    session = await here.session(ann, reply_policy="never")
    await here.join(session, bob)
    async with connected(there, bob) as client, connected(there, bob, f"/ws/sessions/{session['id']}") as bound:
        await client.subscribe(session)
        await bound.expect("subscribed")
        await asyncio.sleep(0.2)
        await remove(here, ann, session, bob)
        await here.said(ann, session, "he is gone")
        left = await client.expect("participant.left")
        assert left["data"]["user_id"] == str(bob.id)
        assert (await client.expect("unsubscribed"))["reason"] == "session-not-found"
        await client.silence()
        assert await bound.closed() == 4403
        client.say("subscribe", session_id=session["id"])
        assert (await client.expect("error"))["problem"]["code"] == "session-not-found"
    assert "he is gone" not in str(client.frames + bound.frames)


async def test_a_deleted_session_ends_for_everybody(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann = await here.person("ann")
    session = await here.session(ann)
    async with connected(here, ann) as near, connected(there, ann) as far:
        for client in (near, far):
            await client.subscribe(session)
        await asyncio.sleep(0.2)
        answer = await here.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers)
        assert answer.status_code == 204
        for client in (near, far):
            assert (await client.expect("unsubscribed"))["reason"] == "session-not-found"


async def test_presence_and_typing_reach_the_others_on_every_process(two: tuple[ChatApi, ChatApi]) -> None:
    here, there = two
    ann, bob = await here.person("ann"), await here.person("bob")
    session = await here.session(ann)
    await here.join(session, bob)
    async with connected(here, ann) as hers:
        first = await hers.subscribe(session)
        assert [person["username"] for person in first["presence"]] == ["ann"]
        async with connected(there, bob) as his, connected(there, bob) as his_phone:
            second = await his.subscribe(session)
            assert sorted(person["username"] for person in second["presence"]) == ["ann", "bob"]
            assert (await hers.expect("presence"))["data"] == {
                "user_id": str(bob.id), "username": "bob", "online": True,
            }  # fmt: skip
            await his_phone.subscribe(session)
            await asyncio.sleep(0.2)
            his.say("typing", session_id=session["id"], active=True)
            assert (await hers.expect("typing"))["data"] == {
                "user_id": str(bob.id), "username": "bob", "active": True,
            }  # fmt: skip
            assert (await his_phone.expect("typing"))["data"]["active"] is True
            his.say("unsubscribe", session_id=session["id"])
            await his.expect("unsubscribed")
            assert (await hers.expect("typing"))["data"]["active"] is False
            await hers.silence(0.3)  # his phone is still there
        assert (await hers.expect("presence"))["data"]["online"] is False


async def test_people_of_a_process_that_died_are_not_there_for_long(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, presence_seconds=0.6) as living:
        ann, bob = await living.person("ann"), await living.person("bob")
        session = await living.session(ann)
        await living.join(session, bob)
        async with (
            chat_api(clean_database.api_url, redis_url, presence_seconds=0.6) as dying,
            connected(dying, bob) as his,
            connected(living, ann) as hers,
        ):
            await his.subscribe(session)
            seen = await hers.subscribe(session)
            assert sorted(person["username"] for person in seen["presence"]) == ["ann", "bob"]
            # As good as killed: it says nothing any more, and takes nothing back.
            presence = dying.app.state.gateway.hub._presence
            presence._closing = True
            presence._wakeup.set()
            gone = await hers.expect("presence", within=30)
            assert (gone["data"]["username"], gone["data"]["online"]) == ("bob", False)


async def test_reading_and_cancelling_over_the_socket(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    chat.agent.script = Gate(first="On and on")
    async with connected(chat, ann) as hers, connected(chat, bob) as his:
        for client in (hers, his):
            await client.subscribe(session)
        hers.say("message.send", session_id=session["id"], client_id="a1", content="@assistant go")
        sent = (await hers.expect("ack"))["message"]
        his.say("read", session_id=session["id"], seq=sent["seq"])
        assert (await hers.expect("read.updated"))["data"] == {"user_id": str(bob.id), "seq": sent["seq"]}
        await his.expect("message.delta")
        his.say("run.cancel", run_id=sent["run_id"])
        assert (await hers.expect("run.cancelled"))["data"]["status"] == "cancelled"


async def test_a_socket_for_one_session_alone(chat: ChatApi, ann: Person, bob: Person) -> None:
    session, other = await chat.session(ann, reply_policy="never"), await chat.session(ann)
    await chat.said(ann, session, "before")
    async with connected(chat, ann, f"/ws/sessions/{session['id']}", query="after_seq=0") as client:
        assert (await client.expect("subscribed"))["recovered"] is True
        assert await contents(client, 1) == ["before"]
        client.say("subscribe", session_id=other["id"])
        assert (await client.expect("error"))["problem"]["code"] == "bound-to-session"
    for path in (f"/ws/sessions/{session['id']}", f"/ws/sessions/{UUID(int=7)}", "/ws/sessions/nonsense"):
        async with connected(chat, bob, path) as client:
            error = await client.expect("error")
            assert error["problem"]["status"] in (404, 422)
            with pytest.raises(SocketClosed) as closed:
                await client.frame()
            assert closed.value.code == 4403


async def test_unsubscribing_ends_it_and_the_room(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    async with connected(chat, ann) as client:
        await client.subscribe(session)
        assert chat.app.state.gateway.hub.room_count == 1
        client.say("unsubscribe", session_id=session["id"])
        await client.expect("unsubscribed")
        await chat.said(ann, session, "unheard")
        await client.silence()
        assert chat.app.state.gateway.hub.room_count == 0
        client.say("typing", session_id=session["id"], active=True)
        assert (await client.expect("error"))["problem"]["code"] == "not-subscribed"
