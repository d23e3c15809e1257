"""A WebSocket client that speaks ASGI to the application in this process: no server, no port, no thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from tests.factories.chat import API, ChatApi, Json, Person

_PATIENCE_SECONDS = 5.0


class SocketClosed(Exception):
    """The application closed the socket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class SocketClient:
    """What a browser's side of a socket sees. `frames` are all that came, in order."""

    def __init__(self) -> None:
        self.frames: list[Json] = []
        self.close_code: int | None = None
        self.reading = asyncio.Event()
        """Cleared, the client takes nothing: what is sent to it waits, as with a full connection."""
        self.reading.set()
        self._to_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    # -- as the server ------------------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        return await self._to_application.get()

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        self._arrived.put_nowait(message)
        if message["type"] == "websocket.close":
            self._to_application.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    # -- as the client ------------------------------------------------------------------------------------

    def say(self, kind: str, **fields: Any) -> None:
        self.say_text(json.dumps({"type": kind, **fields}))

    def say_text(self, text: str) -> None:
        self._to_application.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data: bytes) -> None:
        self._to_application.put_nowait({"type": "websocket.receive", "bytes": data})

    def hang_up(self) -> None:
        self._to_application.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def frame(self, within: float = _PATIENCE_SECONDS) -> Json:
        """The next frame. Raises `SocketClosed`, and `TimeoutError` when nothing comes."""
        async with asyncio.timeout(within):
            message = await self._arrived.get()
        if message["type"] == "websocket.close":
            self.close_code = message["code"]
            raise SocketClosed(message["code"], message.get("reason", ""))
        frame: Json = json.loads(message["text"])
        self.frames.append(frame)
        return frame

    async def expect(self, kind: str, within: float = _PATIENCE_SECONDS, **fields: Any) -> Json:
        """The next frame of a type (and with these fields); those before it are kept in `frames`."""
        began = len(self.frames)
        try:
            async with asyncio.timeout(within):
                while True:
                    frame = await self.frame(within)
                    if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                        return frame
        except TimeoutError:
            raise AssertionError(f"no {kind}, but {self.frames[began:]}") from None

    async def silence(self, seconds: float = 0.1) -> None:
        """Nothing comes for a while."""
        try:
            frame = await self.frame(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected: {frame}")

    async def closed(self, within: float = _PATIENCE_SECONDS) -> int:
        """The code that the socket is closed with."""
        try:
            async with asyncio.timeout(within):
                while True:
                    await self.frame(within)
        except SocketClosed as closed:
            return closed.code

    async def subscribe(self, session: Json, **fields: Any) -> Json:
        self.say("subscribe", session_id=session["id"], **fields)
        return await self.expect("subscribed", session_id=session["id"])

    def events(self, session: Json) -> list[Json]:
        """Durable events of a session among what came."""
        return [item for item in self.frames if item.get("session_id") == session["id"] and "event_seq" in item]


@asynccontextmanager
async def connected(
    chat: ChatApi, person: Person | None, path: str = "/ws", *, query: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[SocketClient]:
    """An open socket; with a person, one that is theirs and ready."""
    client = SocketClient()
    lines = {"host": "colloquy.test", **(headers or {})}
    scope: dict[str, Any] = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": f"{API}{path}",
        "raw_path": quote(f"{API}{path}").encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": ("127.0.0.1", 1),
        "server": ("colloquy.test", 80),
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }
    client._to_application.put_nowait({"type": "websocket.connect"})
    task = asyncio.create_task(chat.app(scope, client.receive, client.send))  # type: ignore[arg-type]  # queues of dicts
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            accepted = await client._arrived.get()
        assert accepted["type"] == "websocket.accept", accepted
        if person is not None:
            client.say("authenticate", token=person.headers["Authorization"].removeprefix("Bearer "))
            await client.expect("ready")
        yield client
    finally:
        client.reading.set()
        client.hang_up()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await task
