"""Two people and the assistant over sockets: who hears what, and in which order."""

from __future__ import annotations

from tests.factories.chat import ChatApi, Person
from tests.factories.sockets import connected
from tests.fakes.agent import saying


async def test_a_message_is_acknowledged_once_it_is_stored_and_told_to_everybody(
    chat: ChatApi, ann: Person, bob: Person
) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    async with connected(chat, ann) as hers, connected(chat, bob) as his:
        await hers.subscribe(session)
        start = (await his.subscribe(session))["last_event_seq"]
        hers.say("message.send", session_id=session["id"], client_id="a1", content="Hello Bob")
        ack = await hers.expect("ack")
        told = await his.expect("message.created")
        assert (ack["client_id"], ack["message"]["content"]) == ("a1", "Hello Bob")
        assert told["data"] == ack["message"]
        assert told["event_seq"] == start + 1
        assert told["data"]["sender"]["username"] == "ann"
        assert (await hers.expect("message.created")) == told


async def test_a_reply_grows_for_everybody_and_ends_once(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    chat.agent.script = saying("People", " taking", " turns.")
    async with connected(chat, ann) as hers, connected(chat, bob) as his:
        for client in (hers, his):
            await client.subscribe(session)
        his.say("message.send", session_id=session["id"], client_id="b1", content="@assistant what is this?")
        for client in (hers, his):
            await client.expect("run.completed")
            types = [event["type"] for event in client.events(session)]
            assert types == [
                "message.created", "run.started", "message.created", "message.updated", "run.completed",
            ]  # fmt: skip
            numbers = [event["event_seq"] for event in client.events(session)]
            assert numbers == list(range(numbers[0], numbers[0] + 5))
            assert client.events(session)[3]["data"]["content"] == "People taking turns."
            text = ""
            for frame in client.frames:
                if frame["type"] == "message.delta":
                    text = text[: frame["data"]["offset"]] + frame["data"]["text"]
            assert "People taking turns.".startswith(text)


async def test_what_was_missed_comes_first_and_nothing_twice(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    async with connected(chat, ann) as client:
        await client.subscribe(session)
        await chat.said(ann, session, "one")
        seen = (await client.expect("message.created"))["event_seq"]
    for text in ("two", "three"):
        await chat.said(ann, session, text)
    async with connected(chat, ann) as client:
        subscribed = await client.subscribe(session, after_seq=seen)
        assert subscribed["recovered"] is True
        assert subscribed["last_event_seq"] == seen + 2
        await chat.said(ann, session, "four")
        told = [await client.expect("message.created") for _ in range(3)]
        assert [event["data"]["content"] for event in told] == ["two", "three", "four"]
        assert [event["event_seq"] for event in told] == [seen + 1, seen + 2, seen + 3]
        await client.silence()
