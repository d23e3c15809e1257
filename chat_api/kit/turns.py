"""Turns: of what takes a core or a connection for long, a process does a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shared.problems import Problem

AT_ONCE = 2
PATIENCE_SECONDS = 30.0


class Turns:
    """One per process, for one kind of work. Whoever waits must not hold a connection meanwhile."""

    def __init__(
        self, busy: Callable[[], Problem], *, at_once: int = AT_ONCE, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._busy = busy
        self._patience_seconds = patience_seconds
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn, for as long as the block lasts. Raises the problem of `busy` where it does not come in time."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy() from None
        try:
            yield
        finally:
            self._free.release()
