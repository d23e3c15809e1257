"""Waiting for a store, and being told to stop meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from chat_api.runs.patience import patiently


async def test_who_is_cancelled_goes_on_when_the_statement_has_ended() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def statement() -> None:
        began.set()
        await may_end.wait()
        order.append("stored")

    async def run() -> None:
        try:
            await patiently(statement)
        finally:
            order.append("stopped")

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert order == ["stored", "stopped"]


async def test_who_is_cancelled_twice_waits_for_nothing() -> None:
    never = asyncio.Event()
    task = asyncio.create_task(patiently(never.wait))
    for _ in range(2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 30)
    never.set()


async def test_a_statement_that_fails_after_the_cancel_is_no_noise() -> None:
    may_end = asyncio.Event()

    async def statement() -> None:
        await may_end.wait()
        raise ConnectionResetError

    task = asyncio.create_task(patiently(statement))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
