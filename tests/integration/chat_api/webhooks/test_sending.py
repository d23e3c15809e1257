"""The way out: to public servers, to those that the operator names, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from chat_api.webhooks.errors import AddressNotAllowed, EndpointTimedOut, EndpointUnreachable
from chat_api.webhooks.sender import GuardedSender
from shared.web.guarded_network import AddressGuard
from tests.factories.inner_addresses import INNER_ADDRESSES, NAMES
from tests.fakes.web import PUBLIC, FakeDialer, FakeResolver, WebServer, listening, page, redirect


@pytest.fixture
async def inside() -> AsyncIterator[WebServer]:
    async with listening(WebServer({"/": page("ok"), "/moved": redirect("http://127.0.0.1/")})) as server:
        yield server


async def test_an_endpoint_of_the_operators_own_network_is_told(inside: WebServer) -> None:
    host = f"127.0.0.1:{inside.port}"
    sender = GuardedSender(seconds=20, internal_hosts=[host])
    assert await sender.post(f"http://{host}/", {"webhook-id": "one"}, b'{"type":"a"}') == 200
    head = inside.requests[0].decode()
    assert head.startswith("POST / HTTP/1.1\r\n")
    assert "webhook-id: one\r\n" in head
    assert "Content-Length: 12\r\n" in head
    assert await sender.post(f"http://{host}/moved", {}, b"{}") == 302, "nothing is followed"
    assert inside.connections == 2


async def test_no_inner_address_is_ever_called(inside: WebServer) -> None:
    names = {name: [addresses] for name, addresses in NAMES.items()}
    dialer = FakeDialer({})
    sender = GuardedSender(
        seconds=20, guard=AddressGuard(FakeResolver(names), ports=[80, 443, inside.port]), dialer=dialer
    )
    for address in INNER_ADDRESSES:
        with pytest.raises(AddressNotAllowed):
            await sender.post(address.replace("PORT", str(inside.port)), {}, b"{}")
    assert dialer.dialled == []
    assert inside.connections == 0


async def test_a_name_that_changes_to_an_inner_address_is_refused_then(inside: WebServer) -> None:
    resolver = FakeResolver({"hooks.example": [[PUBLIC], ["127.0.0.1"]]})
    dialer = FakeDialer({(PUBLIC, 80): inside.port})
    sender = GuardedSender(seconds=20, guard=AddressGuard(resolver), dialer=dialer)
    assert await sender.post("http://hooks.example/", {}, b"{}") == 200
    with pytest.raises(AddressNotAllowed):
        await sender.post("http://hooks.example/", {}, b"{}")
    assert dialer.dialled == [(PUBLIC, 80)]


async def test_silence_and_broken_answers_have_their_problems() -> None:
    async def silent(_: str, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with listening(WebServer({"/silent": silent, "/garbage": b"what?\r\n\r\n", "/cut": b""})) as server:
        host = f"127.0.0.1:{server.port}"
        with pytest.raises(EndpointTimedOut):
            await GuardedSender(seconds=0.3, internal_hosts=[host]).post(f"http://{host}/silent", {}, b"{}")
        sender = GuardedSender(seconds=20, internal_hosts=[host])
        for path in ("/garbage", "/cut"):
            with pytest.raises(EndpointUnreachable):
                await sender.post(f"http://{host}{path}", {}, b"{}")
    with pytest.raises(EndpointUnreachable):
        await sender.post(f"http://{host}/", {}, b"{}")


@pytest.mark.parametrize(
    "chunk", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b"X: " + b"x" * 2000 + b"\r\n"], ids=["hints", "headers"]
)
async def test_who_never_comes_to_the_point_is_heard_no_further(chunk: bytes) -> None:
    written = 0

    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with contextlib.suppress(OSError):
            while True:
                writer.write(chunk)
                await writer.drain()
                written += len(chunk)

    server = await asyncio.start_server(talking, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(EndpointUnreachable):
        await GuardedSender(seconds=20, internal_hosts=[host]).post(f"http://{host}/", {}, b"{}")
    server.close()
    assert written < 20_000_000, "what the kernel buffers"
