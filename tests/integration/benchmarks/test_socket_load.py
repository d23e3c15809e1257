"""The clients of a room as a process, against rooms that do what they should, and rooms that do not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from starlette.types import Receive, Scope, Send

from benchmarks.bare_broadcast import BareBroadcast
from benchmarks.load import LoadFailed
from benchmarks.sockets import NUMBER, RoomLoad, RoomResult, RoomSocket, open_sockets, run_room
from shared.web.websockets import text_frame
from tests.factories.served import served

EVENT = json.dumps({"type": "message.created", "data": {"content": f"##{NUMBER} hello"}})


class Room:
    """A broadcast whose tenth message goes wrong for the socket that came last, in the way of `fault`."""

    def __init__(self, fault: Callable[[list[bytes]], list[bytes]]) -> None:
        self._fault = fault
        self._sockets: list[Send] = []
        self._told: list[bytes] = []
        self.greeted: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        self._sockets.append(send)
        while (message := await receive())["type"] == "websocket.receive":
            text = message["text"]
            if "message.created" not in text:
                self.greeted.append(text)
                await send({"type": "websocket.send", "text": json.dumps({"type": text})})
                continue
            self._told.append(text_frame(text))
            frames = self._told[-1:] if len(self._told) != 10 else self._fault(self._told)
            for socket in self._sockets:
                last = socket is self._sockets[-1]
                whole = b"".join(frames if last else self._told[-1:])
                await socket({"type": "websocket.send", "text": "", "frame": whole})
            await send({"type": "websocket.send", "text": '{"type":"ack"}'})


def right(told: list[bytes]) -> list[bytes]:
    return told[-1:]


FAULTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "lost": lambda told: [],
    "doubled": lambda told: [told[-1], told[-1]],
    "another": lambda told: [told[-2]],
}


def room_of(url: str) -> list[RoomSocket]:
    """Four sockets, one of which writes."""
    words = ("hello", "follow")
    return [RoomSocket(port_of(url), "/", words, words, message=EVENT if index == 0 else None) for index in range(4)]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def measured(url: str, per_second: float = 0.0, patience_seconds: float = 20.0) -> RoomResult:
    return run_room(
        RoomLoad(
            room_of(url),
            seconds=0.4,
            warm_up_seconds=0.1,
            per_second=per_second,
            patience_seconds=patience_seconds,
        )
    )


def test_counts_what_arrives_at_every_socket() -> None:
    with served(room := Room(right)) as url:
        result = measured(url)
    assert sorted(room.greeted) == ["follow"] * 4 + ["hello"] * 4
    assert result.messages_per_second > 0
    # Of two messages the window may have a part only, which is much where a busy machine sends few.
    assert result.deliveries_per_second == pytest.approx(4 * result.messages_per_second, rel=0.1, abs=4 * 2 / 0.4)
    assert 0 < result.p50_ms <= result.p99_ms <= result.longest_ms


def test_paced_writers_send_evenly() -> None:
    with served(Room(right)) as url:
        # Without a pace it would be thousands.
        assert 10 < measured(url, per_second=50.0).messages_per_second < 100


@pytest.mark.parametrize("fault", FAULTS)
def test_a_room_that_loses_or_doubles_a_message_fails(fault: str) -> None:
    with served(Room(FAULTS[fault])) as url, pytest.raises(LoadFailed, match="RoomFailed"):
        measured(url, patience_seconds=1.0)


def test_what_the_bare_broadcast_does_is_right() -> None:
    with served(BareBroadcast()) as url:
        sockets = [RoomSocket(port_of(url), "/", message=EVENT if index == 0 else None) for index in range(3)]
        result = run_room(RoomLoad(sockets, seconds=0.3, warm_up_seconds=0.1, in_flight=2))
    assert result.deliveries_per_second == pytest.approx(3 * result.messages_per_second, rel=0.1, abs=3 * 2 / 0.3)


def test_a_server_that_is_not_there_fails() -> None:
    with pytest.raises(LoadFailed), open_sockets([RoomSocket(1, "/")]):
        pass


def test_sockets_are_open_for_the_time_of_the_block() -> None:
    room = Room(right)
    with served(room) as url, open_sockets(room_of(url)):
        assert sorted(room.greeted) == ["follow"] * 4 + ["hello"] * 4
