"""A way to PostgreSQL or Valkey that a test can cut, close and block, without touching the store itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class StoreLine:
    """Passes bytes on between a port of its own and a store. Made by `store_line`."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._port = 0

    @property
    def url(self) -> str:
        """The store's address, by way of this line."""
        credentials, at, _ = self._to.netloc.rpartition("@")
        return urlunsplit(self._to._replace(netloc=f"{credentials}{at}127.0.0.1:{self._port}"))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break what is connected. New connections are fine."""
        for writer in self._writers:
            writer.transport.abort()

    async def refuse(self) -> None:
        """As if nothing listened there, until `open`."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang(self) -> None:
        """As if the store was stopped: connections are there, and nothing comes."""
        self._flowing.clear()

    def go_on(self) -> None:
        self._flowing.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, there_writer}
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def store_line(url: str) -> AsyncIterator[StoreLine]:
    line = StoreLine(url)
    await line.open()
    try:
        yield line
    finally:
        line.go_on()
        await line.refuse()
