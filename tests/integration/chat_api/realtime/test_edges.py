"""Sockets at the edge: hostile frames, odd addresses, breaks at the wrong moment, and what is left behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chat_api.realtime.gateway import Gateway
from chat_api.realtime.socket import CloseCode, Socket
from shared.web.websockets import ABORT
from tests.factories.chat import API, ChatApi, Person
from tests.factories.sockets import connected

MOST_ERROR_BYTES = 16 * 1024


def gateway_of(chat: ChatApi) -> Gateway:
    gateway: Gateway = chat.app.state.gateway
    return gateway


def bare_scope(**extensions: Any) -> dict[str, Any]:
    return {"type": "websocket", "scheme": "ws", "query_string": b"", "headers": [], "extensions": extensions}


def about(kind: str, **raw: str) -> str:
    """A frame about the test's session, with fields that are JSON already, or are not."""
    return ",".join([f'{{"type":"{kind}","session_id":"$SESSION"', *(f'"{name}":{raw[name]}' for name in raw)]) + "}"


def message(**raw: str) -> str:
    return about("message.send", **{"client_id": '"a"', "content": '"x"', **raw})


HOSTILE = {
    "huge-int": about("read", seq="9" * 4000),
    "huger-int": about("read", seq="9" * 60_000),
    "int-too-large-to-store": about("read", seq=str(2**63)),
    "huge-float": about("read", seq="1e999999"),
    "not-a-number": about("read", seq="NaN"),
    "deep-lists": "[" * 60_000,
    "deep-metadata": message(metadata='{"a":' * 9000 + "1" + "}" * 9000),
    "deep-metadata-that-is-json": message(metadata='{"a":' * 190 + "1" + "}" * 190),
    "endless-metadata": message(metadata='{"a":1e999}'),
    "huge-int-in-metadata": message(metadata='{"a":' + "9" * 4000 + "}"),
    "lone-surrogate": message(content='"\\udfff"'),
    "lone-surrogate-in-client-id": message(client_id='"\\ud800"'),
    "nul": message(content='"a\\u0000"'),
    "nul-in-client-id": message(client_id='"\\u0000"'),
    "nul-in-metadata": message(metadata='{"a":"\\u0000"}'),
    "many-attachments": message(attachment_ids="[" + "0," * 20_000 + "0]"),
    "surrogate-in-type": '{"type":"\\ud800"}',
    "nul-in-type": '{"type":"pi\\u0000ng"}',
    "nul-in-key": '{"type":"ping","\\u0000":1}',
    "type-is-a-list": '{"type":["ping"]}',
    "type-is-an-object": '{"type":{"ping":1}}',
    "type-is-null": '{"type":null}',
    "type-is-long": '{"type":"%s"}' % ("x" * 60_000),
    "many-unknown-fields": json.dumps({"type": "ping", **{f"f{number}": 1 for number in range(5000)}}),
    "long-unknown-field": json.dumps({"type": "ping", "f" * 60_000: 1}),
    "number": "1",
    "string": '"ping"',
    "null": "null",
    "empty": "",
    "blank": " " * 60_000,
    "two": '{"type":"ping"}{"type":"ping"}',
    "byte-order-mark": '\ufeff{"type":"ping"}',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_frame_gets_a_small_error_and_the_socket_goes_on(chat: ChatApi, ann: Person, name: str) -> None:
    session = await chat.session(ann, reply_policy="never")
    async with connected(chat, ann) as client:
        client.say_text(HOSTILE[name].replace("$SESSION", session["id"]))
        error = await client.frame()
        assert error["type"] == "error"
        assert 400 <= error["problem"]["status"] < 500
        assert len(json.dumps(error)) < MOST_ERROR_BYTES
        client.say("ping")
        assert (await client.frame())["type"] == "pong"


async def test_of_two_fields_of_one_name_the_last_counts_for_the_answer_too(chat: ChatApi, ann: Person) -> None:
    async with connected(chat, ann) as client:
        client.say_text('{"type":"ping","type":"unsubscribe","session_id":"x"}')
        error = await client.expect("error")
        assert error["in_reply_to"]["type"] == "unsubscribe"


async def test_a_room_goes_with_the_last_who_was_removed(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    async with connected(chat, bob) as client, connected(chat, bob) as other:
        await client.subscribe(session)
        await other.subscribe(session)
        answer = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=ann.headers)
        assert answer.status_code == 204
        for socket in (client, other):
            await socket.expect("unsubscribed")
        hub = gateway_of(chat).hub
        assert hub.room_count == 0
        assert hub._presence._here == {}
        assert hub._listener is not None
        assert hub._listener._wanted == set()


@pytest.mark.parametrize("write", [str.upper, lambda text: text.replace("-", "")], ids=["upper case", "no hyphens"])
async def test_the_address_of_a_session_may_be_written_otherwise(chat: ChatApi, ann: Person, write: Any) -> None:
    session = await chat.session(ann, reply_policy="never")
    async with connected(chat, ann, f"/ws/sessions/{write(session['id'])}") as client:
        assert (await client.expect("subscribed"))["session_id"] == session["id"]
        client.say("subscribe", session_id=session["id"])
        await client.expect("subscribed")


async def test_an_address_with_too_many_parameters_has_none(chat: ChatApi, ann: Person) -> None:
    query = "&".join(f"p{number}=1" for number in range(50))
    async with connected(chat, ann, query=f"{query}&ticket=x") as client:
        client.say("ping")
        await client.expect("pong")


async def test_saying_again_and_again_that_one_writes_and_does_not_is_not_passed_on(
    chat: ChatApi, ann: Person, bob: Person
) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    async with connected(chat, ann) as writer, connected(chat, bob) as reader:
        for client in (writer, reader):
            await client.subscribe(session)
        for _ in range(40):
            for active in (True, False):
                writer.say("typing", session_id=session["id"], active=active)
        writer.say("ping")
        await writer.expect("pong")
        reader.say("ping")
        await reader.expect("pong")
    typing = [frame["data"]["active"] for frame in reader.frames if frame["type"] == "typing"]
    assert typing in ([True, False], [True, False] * 2)


async def test_one_that_is_gone_before_it_is_accepted_leaves_nothing(chat: ChatApi) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise OSError

    await gateway_of(chat)(bare_scope(), receive, send)
    assert gateway_of(chat).socket_count == 0


async def test_one_that_takes_nothing_is_ended_also_while_it_is_closed(chat: ChatApi) -> None:
    aborted = asyncio.Event()

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    socket = Socket(bare_scope(**{ABORT: aborted.set}), never, never, gateway_of(chat))
    socket.close(CloseCode.FORBIDDEN)
    socket.end_slow()
    assert not aborted.is_set()
    async with asyncio.timeout(30):
        await aborted.wait()
