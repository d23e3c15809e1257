"""A writer keeps the order, waits for nobody, and ends whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chat_api.realtime.events import batch_of
from chat_api.realtime.writer import Closed, SocketWriter

QUEUE_BYTES = 1000


class Connection:
    """`takes` tells whether it takes encoded frames at once; `open` whether it takes anything at all."""

    def __init__(self) -> None:
        self.out: list[bytes | int] = []
        self.takes = True
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.slow = 0

    def write(self, frames: bytes) -> bool:
        if self.takes:
            self.out.append(frames)
        return self.takes

    async def send(self, message: Any) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.out.append(message["code"] if message["type"] == "websocket.close" else message["frame"])

    def too_slow(self) -> None:
        self.slow += 1


@asynccontextmanager
async def writing(connection: Connection, write: Callable[[bytes], bool] | None) -> AsyncIterator[SocketWriter]:
    writer = SocketWriter(connection.send, write=write, queue_bytes=QUEUE_BYTES, too_slow=connection.too_slow)
    task = asyncio.create_task(writer.run())
    await settled()
    yield writer
    connection.open.set()
    writer.close(1000, "")
    async with asyncio.timeout(30):
        await task


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
async def writer(connection: Connection) -> AsyncIterator[SocketWriter]:
    async with writing(connection, connection.write) as writer:
        yield writer


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def sent(text: str) -> bytes:
    return batch_of(text.encode()).frames


async def test_what_is_taken_at_once_is_one_piece_without_waiting(connection: Connection, writer: SocketWriter) -> None:
    writer.put(batch_of(b"a", b"b"))
    assert connection.out == [sent("a") + sent("b")]


async def test_the_order_is_kept_between_the_fast_way_and_the_queue(
    connection: Connection, writer: SocketWriter
) -> None:
    connection.open.clear()
    connection.takes = False
    writer.put(batch_of(b"1"))
    await settled()
    connection.takes = True  # it would take more, but something waits
    writer.put(batch_of(b"2", b"3"))
    await settled()
    assert connection.out == []
    connection.open.set()
    await settled()
    writer.put(batch_of(b"4"))
    assert connection.out == [sent(text) for text in "1234"]


async def test_behind_another_server_everything_goes_through_the_queue(connection: Connection) -> None:
    async with writing(connection, None) as writer:
        writer.put(batch_of(b"1", b"2"))
        writer.put(batch_of(b"3"))
        await settled()
        assert connection.out == [sent(text) for text in "123"]


async def test_a_large_batch_is_no_reason_but_what_comes_on_top_is(
    connection: Connection, writer: SocketWriter
) -> None:
    connection.takes = False
    connection.open.clear()
    writer.put(batch_of(b"x" * 10 * QUEUE_BYTES, b"y" * QUEUE_BYTES * 2))
    await settled()
    assert connection.slow == 0
    writer.put(batch_of(b"z"))
    assert connection.slow == 1


async def test_who_took_everything_may_be_sent_as_much_again(connection: Connection, writer: SocketWriter) -> None:
    connection.takes = False
    for _ in range(50):
        writer.put(batch_of(b"x" * QUEUE_BYTES))
        await settled()
    assert connection.slow == 0


async def test_closing_comes_after_what_waits(connection: Connection, writer: SocketWriter) -> None:
    connection.takes = False
    writer.put(batch_of(b"last"))
    writer.close(1012, "")
    writer.put(batch_of(b"too late"))
    writer.close(4401, "")
    await settled()
    assert connection.out == [sent("last"), 1012]


async def test_closing_at_once_drops_what_waits(connection: Connection, writer: SocketWriter) -> None:
    connection.takes = False
    connection.open.clear()
    writer.put(batch_of(b"under way", b"dropped"))
    await settled()
    writer.close(4408, "", at_once=True)
    connection.open.set()
    await settled()
    assert connection.out == [sent("under way"), 4408]


async def test_a_replay_waits_until_little_waits(connection: Connection) -> None:
    connection.takes = False
    async with writing(connection, connection.write) as writer:
        await writer.drained()
        connection.open.clear()
        writer.put(batch_of(b"x" * 200_000))
        replay = asyncio.create_task(writer.drained())
        await settled()
        assert not replay.done()
        connection.open.set()
        await replay


async def test_a_replay_ends_with_its_socket(connection: Connection, writer: SocketWriter) -> None:
    connection.takes = False
    connection.open.clear()
    writer.put(batch_of(b"x" * 200_000))
    replay = asyncio.create_task(writer.drained())
    await settled()
    writer.close(1012, "")
    with pytest.raises(Closed):
        await replay


async def test_closed_is_not_what_a_store_raises() -> None:
    assert not issubclass(Closed, OSError)


async def test_the_other_side_is_gone(connection: Connection, writer: SocketWriter) -> None:
    connection.takes = False
    connection.error = OSError()
    writer.put(batch_of(b"x"))
    await settled()
    assert writer.is_closing
    with pytest.raises(Closed):
        await writer.drained()
    writer.put(batch_of(b"y"))
    assert connection.out == []


async def test_a_reader_is_stalled_only_while_something_waits_for_it(
    connection: Connection, writer: SocketWriter
) -> None:
    await asyncio.sleep(0.02)
    assert writer.stalled_for() == 0
    connection.takes = False
    connection.open.clear()
    writer.put(batch_of(b"x"))
    await asyncio.sleep(0.02)
    assert writer.stalled_for() >= 0.01
    connection.open.set()
    await settled()
    assert writer.stalled_for() == 0
