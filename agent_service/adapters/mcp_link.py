"""The connection to an MCP server, whatever it is made of, and how its end is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `mcp` costs 46 MB and most of a second, which only an agent with MCP servers pays
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage


MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one message of a server. A longer one is no message, and ends the connection."""

# Errors that we answer ourselves with, where the server did not. JSON-RPC leaves these numbers to applications.
NOT_SENT = 7001
OUTCOME_UNKNOWN = 7002
REFUSED = 7003
SESSION_GONE = 7004

_BURST_BYTES = 16 * 1024 * 1024
_BYTES_PER_SECOND = 4 * 1024 * 1024
_BYTES_PER_MESSAGE = 2048  # that reading one is as good as


class Flooded(Exception):
    """The server sends more than anybody could want. The message says so in our words."""


class FloodMeter:
    """Lets 16 MiB through at once, and 4 MiB a second in the long run: reading it takes time from everybody else."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = float(_BURST_BYTES)
        self._at = self._loop.time()

    def count(self, size: int, *, messages: int = 0) -> None:
        """Raises `Flooded`."""
        size += messages * _BYTES_PER_MESSAGE
        now = self._loop.time()
        self._left = min(_BURST_BYTES, self._left + (now - self._at) * _BYTES_PER_SECOND) - size
        self._at = now
        if self._left < 0:
            raise Flooded("It sent too much.")

    def hold(self, size: int) -> None:
        """Of what is no whole message yet, or was none. Raises `Flooded`."""
        if size > MAX_MESSAGE_BYTES:
            raise Flooded(f"It sent more than {MAX_MESSAGE_BYTES // 1024 // 1024} MiB without a message.")


class Link:
    """What comes from the server, what goes to it, and whether it still stands.

    Whoever learns that it is of no use says so by `lose`. The first reason counts; it is in our words, because it is
    shown and logged.
    """

    def __init__(
        self,
        incoming: MemoryObjectReceiveStream[SessionMessage | Exception],
        outgoing: MemoryObjectSendStream[SessionMessage],
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
