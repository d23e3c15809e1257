"""The limit of fan-out: a broadcast in memory behind the least that can be called a WebSocket application.

`python -m benchmarks.bare_broadcast --port N`. It stores nothing, checks nobody, and has one room: what a socket says
goes to all of them, one after another, and the one who said it is told that it was done.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BareBroadcast:
    """Every path is the room."""

    def __init__(self) -> None:
        self._sockets: list[Send] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{}"})
        else:
            await _lifespan(receive, send)

    async def _websocket(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._sockets.append(send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message["text"]
                for socket in self._sockets:
                    await socket({"type": "websocket.send", "text": text})
                await send({"type": "websocket.send", "text": '{"type":"ack"}'})
        finally:
            self._sockets.remove(send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        BareBroadcast(),
        host="127.0.0.1",
        port=parser.parse_args().port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        # The load's clients do not ask for compression, and ours offers none.
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
