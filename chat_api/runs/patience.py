"""Waiting for what is away for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat
from typing import TypeVar

from chat_api.kit.db import is_store_down

Result = TypeVar("Result")

_STORE_PATIENCE_SECONDS = 30.0
_BACKOFF_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.0)


async def patiently(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do it again while the store is away: PostgreSQL restarts faster than a person notices.

    Shielded, because a statement that is cancelled half-way costs its connection. Who is cancelled goes on when it has
    ended: what is stored next, how the run ended perhaps, has to see what it wrote.
    """
    give_up_at = time.monotonic() + _STORE_PATIENCE_SECONDS
    for delay in backoff():
        attempt = asyncio.ensure_future(work())
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            await asyncio.wait([attempt])
            raise
        except Exception as error:
            if not is_store_down(error) or time.monotonic() + delay > give_up_at:
                raise
            await asyncio.sleep(delay)
    raise AssertionError("the back-off never ends")


def backoff() -> Iterator[float]:
    """Delays in seconds: growing ones, then the last for ever."""
    return chain(_BACKOFF_SECONDS, repeat(_BACKOFF_SECONDS[-1]))
