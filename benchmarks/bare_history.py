"""The limit of reading history: the same statement behind the least that can be called a web application.

`python -m benchmarks.bare_history --port N`; the database's address comes in `BARE_DATABASE_URL`. It checks no
token, no parameter, and knows one route.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import UUID

import asyncpg
import uvicorn

from chat_api.messages.documents import WINDOW_BEFORE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CONNECTIONS = 8
_LATEST = 2**63 - 1


class BareHistory:
    """`GET /<session>/<caller>` answers the latest 50 messages."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        assert self._pool is not None
        body = b"{}"
        if scope["path"] != "/ready":
            _, session, caller = scope["path"].split("/")
            async with self._pool.acquire() as connection:
                body = await connection.fetchval(WINDOW_BEFORE, UUID(session), UUID(caller), _LATEST, 50)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._pool = await asyncpg.create_pool(
                    self._dsn, min_size=1, max_size=_CONNECTIONS, init=_bytes_as_they_are, reset=_nothing
                )
            elif self._pool is not None:
                await self._pool.close()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


async def _bytes_as_they_are(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


async def _nothing(_: asyncpg.Connection) -> None:
    """Single statements leave nothing behind to reset."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        BareHistory(os.environ["BARE_DATABASE_URL"]),
        host="127.0.0.1",
        port=parser.parse_args().port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
