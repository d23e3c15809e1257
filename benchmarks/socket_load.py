"""The process at the other end of the sockets. It shares the machine with what it measures, so it does next to nothing.

Frames are told apart by their first bytes; of an event, only the number that the load wrote into it is read.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import orjson
import uvloop

from benchmarks.load import percentile
from benchmarks.processes import cpu_seconds
from benchmarks.sockets import NUMBER, RoomLoad, RoomResult, RoomSocket

_HOST = "127.0.0.1"
_OPENING_AT_ONCE = 16
_OPENING_SECONDS = 30.0
_EVENT, _ACK, _ERROR = b'"message.created"', b'"ack"', b'"error"'
_TYPE_BYTES = 32
"""The type stands within so many bytes, with or without spaces before it."""
_MARK = b"##"
_DIGITS = len(NUMBER)
_TEXT, _PING, _PONG, _CLOSE = 0x81, 0x89, 0x8A, 0x88


class RoomFailed(Exception):
    """A socket was closed, or told something else than it should have been: the figures would mean nothing."""


class _Room:
    """What is said in one room. Each listener must get as many events as there were messages, in the same order."""

    def __init__(self) -> None:
        self.sent = 0
        self.clients: list[_Client] = []


class _Window:
    """What all sockets share: when to count, when to stop, what was sent when."""

    def __init__(self, load: RoomLoad) -> None:
        self.load = load
        self.loop = asyncio.get_running_loop()
        self.counting = False
        self.stopping = False
        """Nobody writes any more."""
        self.closing = False
        self.failure: Exception | None = None
        self.over = asyncio.Event()
        self.deliveries = 0
        self.acks = 0
        # Anywhere, so that no load says what an earlier one has said.
        self.first_number = secrets.randbelow(9 * 10 ** (_DIGITS - 1))
        self.sent_at = array("d")
        self.latencies = array("d")
        self.rooms: dict[int, _Room] = {}

    def fail(self, error: Exception) -> None:
        if not self.closing:
            self.failure = self.failure or error
            self.over.set()


class _Client(asyncio.Protocol):
    def __init__(self, window: _Window, plan: RoomSocket) -> None:
        self._window = window
        self._plan = plan
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self._upgraded = False
        self._message = None if plan.message is None else _frame(plan.message.encode())
        self._answers = [b'"%b"' % kind.encode() for kind in plan.answers]
        self._opening = [_frame(text.encode()) for text in plan.opening]
        self.room = window.rooms.setdefault(plan.room, _Room())
        self.room.clients.append(self)
        self.received = 0
        self.order = 0
        """A hash over the numbers of what was received: equal for sockets that got the same in the same order."""
        self.opened: asyncio.Future[None] = window.loop.create_future()

    @property
    def writes(self) -> bool:
        return self._message is not None

    # -- opening -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the class.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(
            f"GET {self._plan.path} HTTP/1.1\r\nHost: {_HOST}:{self._plan.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self._window.fail(error)

    def _go_on_opening(self) -> None:
        if self._opening:
            assert self._transport is not None
            self._transport.write(self._opening.pop(0))
        elif not self.opened.done():
            self.opened.set_result(None)

    # -- receiving ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001 - the event loop would swallow it; the run has to fail
            self._fail(error)

    def _feed(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        if not self._upgraded:
            position = self._upgrade(data)
        size = len(data)
        while size - position >= 2:
            start, length = position + 2, data[position + 1]
            if length == 126:
                start, length = start + 2, int.from_bytes(data[start : start + 2], "big")
            elif length == 127:
                start, length = start + 8, int.from_bytes(data[start : start + 8], "big")
            end = start + length
            if end > size:
                break
            if data[position] == _TEXT and data.find(_EVENT, start, start + _TYPE_BYTES) > 0:
                self._delivered(data, start, end)
            else:
                self._other(data[position], data[start:end])
            position = end
        if position < size:
            self._rest = data[position:]

    def _upgrade(self, data: bytes) -> int:
        """Where the first frame begins: at the end, as long as the answer is not complete."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._rest = data
            return len(data)
        if not data.startswith(b"HTTP/1.1 101"):
            raise RoomFailed(f"not upgraded: {data[:300]!r}")
        self._upgraded = True
        self._go_on_opening()
        return end

    def _delivered(self, data: bytes, start: int, end: int) -> None:
        found = data.find(_MARK, start, end) + 2
        number = int(data[found : found + _DIGITS])
        self.received += 1
        self.order = (self.order * 31 + number) & 0xFFFFFFFF
        window = self._window
        if window.counting:
            window.deliveries += 1
            window.latencies.append(time.perf_counter() - window.sent_at[number - window.first_number])

    def _other(self, first: int, payload: bytes) -> None:
        if first == _PING:
            assert self._transport is not None
            self._transport.write(_frame(payload, _PONG))
        elif first == _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self._fail(RoomFailed(f"the server closed the socket with {code}: {payload[2:].decode()}"))
        elif _ACK in payload[:_TYPE_BYTES]:
            self._acknowledged()
        elif _ERROR in payload[:_TYPE_BYTES]:
            self._fail(RoomFailed(f"the server refused a frame: {payload.decode()[:1000]}"))
        elif self._answers and self._answers[0] in payload[:_TYPE_BYTES]:
            self._answers.pop(0)
            self._go_on_opening()

    # -- writing -----------------------------------------------------------------------------------------------

    def _acknowledged(self) -> None:
        window = self._window
        if window.counting:
            window.acks += 1
        if not window.stopping and not window.load.per_second:
            self.write()

    def write(self) -> None:
        assert self._message is not None
        assert self._transport is not None
        window = self._window
        number = window.first_number + len(window.sent_at)
        self.room.sent += 1
        frame = self._message.replace(NUMBER.encode(), b"%010d" % number)
        window.sent_at.append(time.perf_counter())
        self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _frame(payload: bytes, first: int = _TEXT) -> bytes:
    """A client's frame. Masked with zeros, as it has to be masked with something."""
    length = len(payload)
    size = bytes((0x80 | length,)) if length < 126 else bytes((0x80 | 126,)) + length.to_bytes(2, "big")
    return bytes((first,)) + size + b"\0\0\0\0" + payload


async def _open(window: _Window) -> list[_Client]:
    gate = asyncio.Semaphore(_OPENING_AT_ONCE)

    async def open_one(plan: RoomSocket) -> _Client:
        async with gate, asyncio.timeout(_OPENING_SECONDS):
            _, client = await window.loop.create_connection(lambda: _Client(window, plan), _HOST, plan.port)
            await client.opened
        return client

    return await asyncio.gather(*(open_one(plan) for plan in window.load.sockets))


async def make_load(load: RoomLoad) -> RoomResult:
    window = _Window(load)
    clients = await _open(window)
    writers = [client for client in clients if client.writes]
    sending: asyncio.Task[None] | None = None
    if load.per_second:
        sending = asyncio.create_task(_send_evenly(window, writers))
    else:
        for writer in writers:
            for _ in range(load.in_flight):
                writer.write()
    await _wait(window, load.warm_up_seconds)
    gc.collect()
    gc.disable()
    window.counting = True
    started, cpu, server_cpu = time.perf_counter(), time.process_time(), _cpu_of(load.pids)
    await _wait(window, load.seconds)
    give_up_at = time.monotonic() + load.patience_seconds
    while not window.latencies and window.failure is None and time.monotonic() < give_up_at:
        await _wait(window, 0.01)  # a short window of a busy machine ends with the first message
    window.counting = False
    elapsed, cpu, server_cpu = (
        time.perf_counter() - started,
        time.process_time() - cpu,
        _cpu_of(load.pids) - server_cpu,
    )
    deliveries, acks, latencies = window.deliveries, window.acks, sorted(window.latencies)
    # No more is sent; what is on its way has to arrive.
    window.stopping = True
    if sending is not None:
        await sending
    await _all_received(window)
    _close(window, clients)
    if not latencies:
        raise RoomFailed("not one message came in time")
    return RoomResult(
        deliveries_per_second=deliveries / elapsed,
        messages_per_second=acks / elapsed,
        p50_ms=percentile(latencies, 0.50) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        longest_ms=latencies[-1] * 1000,
        generator_cpu=cpu / elapsed,
        server_cpu=server_cpu / elapsed,
    )


def _cpu_of(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)


async def _send_evenly(window: _Window, writers: list[_Client]) -> None:
    """So many a second, one writer after another. Sends what is due: a late moment makes none fewer."""
    started = window.loop.time()
    sent = 0
    while not window.stopping:
        due = int((window.loop.time() - started) * window.load.per_second)
        for number in range(sent, due):
            writers[number % len(writers)].write()
        sent = due
        await asyncio.sleep(0.5 / window.load.per_second)


async def _all_received(window: _Window) -> None:
    give_up_at = time.monotonic() + window.load.patience_seconds
    for number, room in window.rooms.items():
        while any(client.received < room.sent for client in room.clients):
            if window.failure is not None:
                raise window.failure
            if time.monotonic() > give_up_at:
                least = min(client.received for client in room.clients)
                raise RoomFailed(f"of {room.sent} messages in room {number} somebody has {least}")
            await asyncio.sleep(0.02)
        if {(client.received, client.order) for client in room.clients} != {(room.sent, room.clients[0].order)}:
            raise RoomFailed(f"the listeners of room {number} did not all get the same in the same order")


async def _wait(window: _Window, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await window.over.wait()
    except TimeoutError:
        pass


def _close(window: _Window, clients: list[_Client]) -> None:
    """Raises what went wrong before."""
    if window.failure is not None:
        raise window.failure
    window.closing = True
    for client in clients:
        client.close()


async def hold(load: RoomLoad) -> None:
    """Open all sockets, say so in one line, and keep them until the input ends."""
    window = _Window(load)
    clients = await _open(window)
    os.write(sys.stdout.fileno(), b"open\n")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    _close(window, clients)


def _load(task: dict[str, Any]) -> RoomLoad:
    return RoomLoad(sockets=[RoomSocket(**item) for item in task.pop("sockets")], **task)


def main() -> None:
    if "--hold" in sys.argv:
        uvloop.run(hold(_load(orjson.loads(sys.stdin.buffer.readline()))))
        return
    result = uvloop.run(make_load(_load(orjson.loads(sys.stdin.buffer.read()))))
    # With PYTHONUNBUFFERED, `sys.stdout.buffer` may write less than it was given.
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(orjson.dumps(asdict(result)))


if __name__ == "__main__":
    main()
