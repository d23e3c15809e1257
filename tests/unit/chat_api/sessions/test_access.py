"""Ending what somebody hears: in the middle of waiting, once, and whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from chat_api.sessions.access import Access, AccessWatch, Membership
from chat_api.sessions.hints import EventsAdded, SessionGone, SessionHints

ANN = Membership(UUID(int=1), UUID(int=2))
BOB = Membership(UUID(int=1), UUID(int=3))
ELSEWHERE = Membership(UUID(int=9), UUID(int=3))


class ListedMembers:
    """Says what it is told to: each look takes one of `looks`, and none is lost when they are used up."""

    def __init__(self, *looks: list[Membership] | Exception) -> None:
        self.looks = list(looks)
        self.asked: list[set[Membership]] = []

    async def lost(self, known: Sequence[Membership]) -> list[Membership]:
        self.asked.append(set(known))
        found = self.looks.pop(0) if self.looks else []
        if isinstance(found, Exception):
            raise found
        return found


@asynccontextmanager
async def watching(members: ListedMembers) -> AsyncIterator[tuple[AccessWatch, SessionHints]]:
    hints = SessionHints(None)
    watch = AccessWatch(members, hints, look_seconds=0.01)
    watch.start()
    try:
        yield watch, hints
    finally:
        await watch.close()


async def until_ended(access: Access) -> None:
    async with asyncio.timeout(30):
        while not access.ended:
            await asyncio.sleep(0.005)


async def test_who_was_lost_is_ended_and_nobody_else() -> None:
    async with watching(ListedMembers([], [BOB])) as (watch, _):
        with watch.open(ANN) as hers, watch.open(BOB) as first, watch.open(BOB) as second, watch.open(ELSEWHERE) as his:
            await until_ended(first)
            assert second.ended
            assert not hers.ended
            assert not his.ended


@pytest.mark.parametrize("error", [ConnectionRefusedError(), ValueError("a fault of ours")])
async def test_a_bad_look_ends_nothing_and_is_not_the_last(error: Exception) -> None:
    async with watching(ListedMembers(error, error, [ANN])) as (watch, _):
        with watch.open(ANN) as access:
            await until_ended(access)


async def test_nobody_is_asked_about_when_nobody_listens() -> None:
    members = ListedMembers()
    async with watching(members) as (watch, _):
        await asyncio.sleep(0.05)
        assert members.asked == []
        with watch.open(ANN), watch.open(ANN):
            assert watch.count(ANN) == 2
            await asyncio.sleep(0.05)
        assert watch.count(ANN) == 0
        asked = len(members.asked)
        assert members.asked == [{ANN}] * asked
        assert asked > 0
        await asyncio.sleep(0.05)
        assert len(members.asked) == asked


async def test_a_session_that_is_gone_ends_for_everybody_in_it() -> None:
    async with watching(ListedMembers()) as (watch, hints):
        with watch.open(ANN) as hers, watch.open(BOB) as his, watch.open(ELSEWHERE) as other:
            everybody = (hers, his, other)
            hints.tell(ANN.session_id, EventsAdded(1))
            assert [access.ended for access in everybody] == [False, False, False]
            hints.tell(ANN.session_id, SessionGone())
            assert [access.ended for access in everybody] == [True, True, False]


async def counting(upto: int, pause: float = 0) -> AsyncIterator[int]:
    for number in range(upto):
        await asyncio.sleep(pause)
        yield number


async def test_items_pass_until_the_end_of_either() -> None:
    assert [item async for item in Access().while_it_lasts(counting(5))] == [0, 1, 2, 3, 4]

    access = Access()
    seen = []
    async for item in access.while_it_lasts(counting(5)):
        seen.append(item)
        if item == 2:
            access.end()
            access.end()
    assert seen == [0, 1, 2]


async def test_an_end_interrupts_waiting() -> None:
    access = Access()
    asyncio.get_running_loop().call_later(0.01, access.end)
    async with asyncio.timeout(30):
        assert [item async for item in access.while_it_lasts(counting(5, pause=3600))] == []


async def test_a_timeout_of_the_source_is_not_taken_for_the_end() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise TimeoutError

    with pytest.raises(TimeoutError):
        async for _ in Access().while_it_lasts(failing()):
            pass


async def test_a_cancelled_reader_is_cancelled() -> None:
    async def reads() -> None:
        async for _ in Access().while_it_lasts(counting(1, pause=3600)):
            pass

    task = asyncio.create_task(reads())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
