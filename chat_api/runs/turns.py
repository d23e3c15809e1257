"""Lets the writers of one session wait for each other here, and not in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

_PATIENCE_SECONDS = 5.0
_AT_ONCE = 6
"""One commits, and PostgreSQL hands the session's row to the next without a word from us. With two at once a room
stores half as much as with six, with sixteen hardly more; what is left of the pool is for all other sessions."""


class SessionTurns:
    """One per process. Without it, a busy session holds every connection, and all others wait with it."""

    def __init__(self) -> None:
        self._turns: dict[UUID, _Turns] = {}

    @asynccontextmanager
    async def of(self, session_id: UUID) -> AsyncIterator[None]:
        """First come, first served. Raises `TimeoutError` after 5 s, as a store does that is too slow."""
        turns = self._turns.setdefault(session_id, _Turns())
        turns.users += 1
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await turns.free.acquire()
            try:
                yield
            finally:
                turns.free.release()
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[session_id]


class _Turns:
    __slots__ = ("free", "users")

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(_AT_ONCE)
        self.users = 0
