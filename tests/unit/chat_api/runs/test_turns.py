"""Writers of one session take turns, those of others do not wait for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from chat_api.runs.turns import SessionTurns


async def test_six_at_once_in_the_order_of_coming() -> None:
    turns, session_id = SessionTurns(), uuid4()
    inside: list[int] = []
    most = 0
    order: list[int] = []

    async def write(number: int) -> None:
        nonlocal most
        async with turns.of(session_id):
            inside.append(number)
            order.append(number)
            most = max(most, len(inside))
            await asyncio.sleep(0)
            inside.remove(number)

    await asyncio.gather(*(write(number) for number in range(20)))
    assert (most, order) == (6, list(range(20)))


async def test_another_session_does_not_wait() -> None:
    turns, busy, calm = SessionTurns(), uuid4(), uuid4()
    async with AsyncExitStack() as held:
        for _ in range(6):
            await held.enter_async_context(turns.of(busy))
        async with asyncio.timeout(30), turns.of(calm):
            pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), turns.of(busy):
                pass
    async with asyncio.timeout(30), turns.of(busy):
        pass


async def test_nothing_is_kept_of_who_is_done() -> None:
    turns = SessionTurns()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with turns.of(uuid4()):
                raise ZeroDivisionError
    assert turns._turns == {}
