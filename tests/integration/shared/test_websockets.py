"""The WebSocket connection of the services, behind a real server, against good peers and bad ones."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Iterator

import pytest
import websockets
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from shared.web.websockets import CLOSE_SECONDS, RoomProtocol, text_frame
from tests.factories.served import served
from tests.factories.websocket_peers import Server, accepted, join, raw, until


class Stage:
    """One real server for all tests, with an application of its own for each: starting one costs more than a test."""

    def __init__(self) -> None:
        self.app = Server()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with served(stage) as address:
        stage.app.address = address.replace("http", "ws")
        yield stage


@pytest.fixture
def server(stage: Stage) -> Server:
    app = Server()
    app.address = stage.app.address
    stage.app = app
    return app


# -- frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
async def test_an_encoded_frame_is_what_a_client_reads(server: Server, size: int) -> None:
    async with join(server, "/sized") as client:
        await client.send(str(size))
        assert await client.recv() == "a" * size


async def test_text_and_bytes_encode_alike() -> None:
    assert text_frame("grün") == text_frame("grün".encode()) == b"\x81\x05gr\xc3\xbcn"


async def test_frames_are_answered_in_order(server: Server) -> None:
    async with join(server, "/echo") as client:
        for number in range(50):
            await client.send(f"é {number}")
        assert [await client.recv() for _ in range(50)] == [f"é {number}" for number in range(50)]
        await client.send(b"\x00\x01")
        assert await client.recv() == b"\x00\x01"
    await until(lambda: bool(server.ended))
    assert server.ended == [None]
    assert server.seen[-1] == {"type": "websocket.disconnect", "code": 1000, "reason": ""}


async def test_text_without_a_frame_is_encoded(server: Server) -> None:
    async with join(server, "/plain") as client:
        assert await client.recv() == "plain ä"


async def test_frames_can_be_written_at_once(server: Server) -> None:
    async with join(server, "/write") as client:
        assert [await client.recv(), await client.recv()] == ["one", "two"]
    await until(lambda: bool(server.ended))
    assert server.ended == [None]


async def test_a_message_in_fragments_is_one(server: Server) -> None:
    async with join(server, "/echo") as client:
        await client.send(["one ", "two ", "three"])
        assert await client.recv() == "one two three"
    assert server.seen[0] == {"type": "websocket.receive", "text": "one two three"}


async def test_a_frame_of_64_kib_passes(server: Server) -> None:
    async with join(server, "/echo") as client:
        await client.send("x" * 65_536)
        assert len(await client.recv()) == 65_536


# -- peers that break the rules -------------------------------------------------------------------------------


async def closed_with(client: ClientConnection) -> int:
    await client.wait_closed()
    assert client.close_code is not None
    return client.close_code


@pytest.mark.parametrize("size", [66_560, 3_000_000])
async def test_a_frame_that_is_too_big_ends_with_1009(server: Server, size: int) -> None:
    async with join(server, "/echo") as client:
        await asyncio.wait([asyncio.ensure_future(client.send("x" * size))])
        assert await closed_with(client) == 1009
    await until(lambda: bool(server.ended))
    assert server.ended == [None]
    assert server.seen[-1]["code"] == 1009


async def test_who_still_sends_hears_why_it_ended(server: Server) -> None:
    """A reset would drop the close frame that the peer has not read yet."""
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        transport = peer.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        for _ in range(20):
            peer.send(1, b"x" * 60_000, fin=False)
            await asyncio.sleep(0.01)
        transport.resume_reading()
        assert await peer.close_code() == 1009


async def test_fragments_that_are_too_big_together_end_with_1009(server: Server) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(1, b"x" * 40_000, fin=False)
        peer.send(0, b"x" * 40_000)
        assert await peer.close_code() == 1009
        await asyncio.wait_for(peer.gone(), 30)


async def test_endless_empty_fragments_end_with_1009(server: Server) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(1, b"x", fin=False)
        peer.send(0, b"", fin=False, times=10_000)
        assert await peer.close_code() == 1009


@pytest.mark.parametrize(("opcode", "payload"), [(3, b"x"), (0, b"continues nothing"), (9, b"p" * 126)])
async def test_what_is_no_frame_ends_with_1002(server: Server, opcode: int, payload: bytes) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(opcode, payload)
        assert await peer.close_code() == 1002


async def test_text_that_is_not_utf8_ends_with_1007_and_no_error_of_ours(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(1, b"a\xff")
        assert await peer.close_code() == 1007
        await until(lambda: bool(server.ended))
    assert caplog.records == []


async def test_an_unmasked_frame_ends_with_1002(server: Server) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.writer.write(text_frame("as a server would"))
        assert await peer.close_code() == 1002


@pytest.mark.parametrize("opcode", [9, 10])
async def test_a_flood_of_pings_or_pongs_ends_with_4429(server: Server, opcode: int) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(opcode, b"", times=1000)
        assert await peer.close_code() == 4429


async def test_a_flood_that_nobody_asks_for_ends_with_4429(server: Server) -> None:
    async with raw(server, "/deaf") as peer:
        await accepted(peer)
        peer.send(1, b"x", times=3000)
        assert await peer.close_code() == 4429


async def test_pings_are_answered(server: Server) -> None:
    async with raw(server, "/echo") as peer:
        await accepted(peer)
        peer.send(9, b"there?")
        assert await peer.frame() == (10, b"there?")


async def test_a_peer_whose_pongs_wait_gets_the_newest(server: Server) -> None:
    async with raw(server, "/talk", receive_buffer=4096) as peer:
        await accepted(peer)
        await until(lambda: server.most_buffered > 0)
        for number in range(20):
            peer.send(9, b"%d" % number)
            await asyncio.sleep(0.01)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        pongs: list[bytes] = []
        while b"19" not in pongs:
            opcode, payload = await asyncio.wait_for(peer.frame(), 30)
            if opcode == 10:
                pongs.append(payload)
        # One, unless the machine is so busy that the server has read only some of the pings by now.
        assert len(pongs) < 5


@pytest.mark.parametrize(
    ("path", "status"),
    [("/echo?ticket=" + "a" * 9000, b"HTTP/1.1 414"), ("/echo?\u00e9", b"HTTP/1.1 400")],
)
async def test_an_address_that_cannot_be_is_answered(server: Server, path: str, status: bytes) -> None:
    async with raw(server, path) as peer:
        answer = await asyncio.wait_for(peer.reader.read(), 30)
    assert answer.startswith(status)
    assert server.ended == []


async def test_a_handshake_without_its_key_is_answered(server: Server) -> None:
    port = int(server.address.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 400")
    writer.close()


# -- peers that do not read, or do not go ---------------------------------------------------------------------


async def test_a_peer_that_never_reads_holds_little_and_does_not_hold_others(server: Server) -> None:
    async with raw(server, "/talk", receive_buffer=4096) as peer, join(server, "/echo") as other:
        await accepted(peer)
        await until(lambda: server.most_buffered > 0)
        await other.send("still there?")
        assert await asyncio.wait_for(other.recv(), 30) == "still there?"
        assert server.most_buffered < 300_000


async def test_an_aborted_peer_is_gone_at_once(server: Server) -> None:
    async with raw(server, "/talk_until_stalled", receive_buffer=4096) as peer:
        await accepted(peer)
        await until(lambda: bool(server.ended))
        assert server.ended == [None]
        assert server.seen[-1]["type"] == "websocket.disconnect"
        # The kernel has dropped what was on its way: a reset, and not megabytes that could still be read.
        started = time.monotonic()
        with pytest.raises(ConnectionResetError):
            await peer.reader.readexactly(100_000_000)
        assert time.monotonic() - started < 20


async def test_a_close_frame_that_cannot_be_written_does_not_linger(server: Server) -> None:
    async with raw(server, "/talk_then_close", receive_buffer=4096) as peer:
        await accepted(peer)
        started = time.monotonic()
        await until(lambda: bool(server.ended))
        assert CLOSE_SECONDS - 0.5 < time.monotonic() - started < CLOSE_SECONDS + 20
        assert server.ended == [None]


async def test_a_peer_that_does_not_answer_a_close_frame_does_not_linger(server: Server) -> None:
    async with raw(server, "/close") as peer:
        await accepted(peer)
        started = time.monotonic()
        assert await peer.close_code() == 4403
        await peer.gone()
        assert time.monotonic() - started < CLOSE_SECONDS + 20
    await until(lambda: bool(server.ended))
    assert server.ended == [None]


async def test_a_close_frame_that_is_answered_ends_at_once(server: Server) -> None:
    took: list[float] = []
    while not took or (took[-1] > CLOSE_SECONDS / 2 and len(took) < 5):  # a busy machine may take longer, at times
        async with join(server, "/close") as client:
            started = time.monotonic()
            assert await closed_with(client) == 4403
            await client.wait_closed()
            took.append(time.monotonic() - started)
    assert took[-1] < CLOSE_SECONDS / 2


async def test_a_peer_that_closes_but_never_reads_does_not_linger(server: Server) -> None:
    async with raw(server, "/talk", receive_buffer=4096) as peer:
        await accepted(peer)
        await until(lambda: server.most_buffered > 0)
        peer.send(8, struct.pack("!H", 1000))
        await until(lambda: bool(server.ended))
        assert isinstance(server.ended[0], ClientDisconnected)


async def test_a_peer_that_answers_no_ping_is_aborted() -> None:
    app = Server()
    with served(app, ws_ping_interval=0.2, ws_ping_timeout=0.2) as address:
        app.address = address.replace("http", "ws")
        async with raw(app, "/talk", receive_buffer=4096) as stalled, raw(app, "/echo") as silent:
            await accepted(stalled)
            await accepted(silent)
            await until(lambda: len(app.ended) == 2)
            await asyncio.wait_for(silent.gone(), 30)


async def test_a_peer_that_answers_pings_stays() -> None:
    app = Server()
    with served(app, ws_ping_interval=0.2, ws_ping_timeout=1.5) as address:
        app.address = address.replace("http", "ws")
        async with join(app, "/echo") as client:
            await asyncio.sleep(2.5)
            await client.send("here")
            assert await client.recv() == "here"


# -- the end --------------------------------------------------------------------------------------------------


async def test_everybody_hears_1012_also_who_is_talking() -> None:
    app = Server()
    running = served(app)
    address = await asyncio.to_thread(running.__enter__)
    app.address = address.replace("http", "ws")

    async def talk(client: ClientConnection) -> int:
        try:
            while True:
                await client.send("x" * 1000)
                await client.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    clients = [await join(app, "/echo") for _ in range(20)]
    talking = [asyncio.create_task(talk(client)) for client in clients]
    async with raw(app, "/talk", receive_buffer=4096) as stalled:
        await accepted(stalled)
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await asyncio.to_thread(running.__exit__, None, None, None)
        assert time.monotonic() - started < CLOSE_SECONDS + 15
    assert await asyncio.gather(*talking) == [1012] * 20
    for client in clients:
        await client.close()
    assert {type(error) for error in app.ended} <= {type(None), ClientDisconnected}


async def test_an_application_that_fails_ends_the_connection(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with join(server, "/fail?ticket=verysecret") as client:
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    assert "a fault of ours" in caplog.text
    assert "verysecret" not in caplog.text


# -- logs -----------------------------------------------------------------------------------------------------


async def test_no_ticket_and_no_text_reaches_a_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    # Of the server alone: the client of this test logs what it sends, in the same process.
    client_log = logging.getLogger("a client's own")
    client_log.propagate = False
    caplog.set_level(1)
    address = server.address
    async with connect(address + "/echo?ticket=verysecret", compression=None, logger=client_log) as client:
        await client.send("private words")
        await client.recv()
    with pytest.raises(InvalidStatus):
        await connect(address + "/refuse?ticket=verysecret", logger=client_log)
    async with raw(server, "/echo?ticket=verysecret" + "t" * 9000) as peer:
        await peer.reader.read()
    await until(lambda: len(server.ended) == 2)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "verysecret" not in said
    assert "private words" not in said


def test_the_tests_serve_with_the_protocol_of_the_services(server: Server) -> None:
    from shared.web.websockets import websocket_options

    assert websocket_options()["ws"] is RoomProtocol
    assert websocket_options()["ws_max_size"] == 65_536
