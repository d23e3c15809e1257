"""One device of one person in one room. It connects again when it has to, and says where it was."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.faults.accounts import Member
from tests.faults.person import API

Json = dict[str, Any]
_RETRY_SECONDS = 0.1
_INTERNAL = 1011
_UNAVAILABLE = 503
_HARMLESS = frozenset({"ready", "pong", "typing"})


@dataclass(frozen=True)
class Seen:
    """A durable event as it came. `received_at` is `time.perf_counter()`."""

    event_seq: int
    type: str
    message_id: str
    client_id: str | None
    received_at: float


class WronglyTold(AssertionError):
    """A frame that should not have come: a gap, an event a second time, or an error."""


class NotNow(Exception):
    """The service says that a store is away. A client tries again, over a new connection."""


class RoomClient:
    """`urls` are the replicas: the first until it is followed there, then the next whenever one does not answer or
    ends it.

    Starts at the first event of the room. `follow` runs until it is cancelled, and raises `WronglyTold`.
    """

    def __init__(self, member: Member, session: str, *urls: str) -> None:
        self.member = member
        self.events: list[Seen] = []
        self.closed_with: list[int | None] = []
        """Close codes in the order in which connections ended; None without one."""
        self.subscribed = asyncio.Event()
        """Set while the room is followed."""
        self.caught_up_at = 0.0
        """When it last had all that there was at the moment of its subscription; seconds since the epoch."""
        self.online: dict[str, bool] = {}
        """The last that was said about the presence of each person."""
        self._session = session
        self._urls = itertools.cycle(url.replace("http", "ws", 1) + f"{API}/ws" for url in urls)
        self._has_begun = False
        self._socket: ClientConnection | None = None
        self._caught_up_with: int | None = None
        self._waiting: dict[str, tuple[str, asyncio.Future[str]]] = {}

    @property
    def last_seq(self) -> int:
        return self.events[-1].event_seq if self.events else 0

    # -- what tests tell it to do -------------------------------------------------------------------------

    async def follow(self) -> None:
        url = next(self._urls)
        while True:
            try:
                # The answer to a ping would be a sign of life that the server has to do without.
                async with connect(
                    url, compression=None, proxy=None, ping_interval=None, open_timeout=30, close_timeout=1
                ) as socket:
                    self._socket = socket
                    await self._converse(socket)
            except ConnectionClosed as end:
                self.closed_with.append(None if end.rcvd is None else end.rcvd.code)
                if self.closed_with[-1] == _INTERNAL:
                    await asyncio.sleep(_RETRY_SECONDS)
            except (OSError, EOFError, TimeoutError, WebSocketException, NotNow):
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                self.subscribed.clear()
                self._socket = None
            if self._has_begun:
                url = next(self._urls)

    async def say(self, client_id: str, content: str) -> str:
        """Send over whatever connection there is until it is acknowledged; the message's id."""
        frame = json.dumps(
            {"type": "message.send", "session_id": self._session, "client_id": client_id, "content": content}
        )
        acknowledged: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[client_id] = frame, acknowledged
        if self._socket is not None and self.subscribed.is_set():
            # What goes down with the connection is sent again over the next.
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(frame)
        return await acknowledged

    async def cut(self, dice: random.Random) -> bool:
        """Break the connection in one of the ways in which connections break; whether there was one."""
        socket = self._socket
        if socket is None:
            return False
        match dice.randrange(3):
            case 0:
                await socket.close()
            case 1:
                socket.transport.close()
            case _:
                socket.transport.abort()
        return True

    # -- the connection -----------------------------------------------------------------------------------

    async def _converse(self, socket: ClientConnection) -> NoReturn:
        await socket.send(json.dumps({"type": "authenticate", "token": self.member.token}))
        subscribe = {"type": "subscribe", "session_id": self._session, "after_seq": self.last_seq}
        await socket.send(json.dumps(subscribe))
        while True:
            frame = json.loads(await socket.recv())
            if frame.get("event_seq") is not None:
                self._saw(frame)
            elif frame["type"] == "subscribed":
                self._begin(frame)
                for waiting, _ in list(self._waiting.values()):
                    await socket.send(waiting)
            else:
                self._told(frame)

    def _begin(self, frame: Json) -> None:
        if not frame["recovered"]:
            raise WronglyTold(f"not recovered from {self.last_seq}: last is {frame['last_event_seq']}")
        self._caught_up_with = frame["last_event_seq"]
        self.online = {person["id"]: True for person in frame["presence"]}
        self._note_if_caught_up()
        self._has_begun = True
        self.subscribed.set()

    def _saw(self, frame: Json) -> None:
        if frame["event_seq"] != self.last_seq + 1:
            raise WronglyTold(f"event {frame['event_seq']} after {self.last_seq}")
        if frame["session_id"] != self._session:
            raise WronglyTold("an event of another room")
        data = frame["data"]
        seen = Seen(frame["event_seq"], frame["type"], data["id"], data.get("client_id"), time.perf_counter())
        self.events.append(seen)
        self._note_if_caught_up()

    def _told(self, frame: Json) -> None:
        kind = frame["type"]
        if kind == "ack":
            # A message that was sent twice is acknowledged twice.
            _, acknowledged = self._waiting.pop(frame["client_id"], ("", None))
            if acknowledged is not None:
                acknowledged.set_result(frame["message"]["id"])
        elif kind == "presence":
            self.online[frame["data"]["user_id"]] = frame["data"]["online"]
        elif kind == "error" and frame["problem"]["status"] == _UNAVAILABLE:
            raise NotNow
        elif kind not in _HARMLESS:
            raise WronglyTold(str(frame))

    def _note_if_caught_up(self) -> None:
        if self._caught_up_with is not None and self.last_seq >= self._caught_up_with:
            self.caught_up_at = time.time()
            self._caught_up_with = None
