"""The limiter, over windows that fail, hang and come back; and what a process counts by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.exceptions import ConnectionError as RedisAway

from chat_api.auth.rate_limiter import LocalBuckets, RateLimiter
from chat_api.auth.rate_windows import Allowance, Verdict

ANN, BOB = Allowance("ann", 3), Allowance("bob", 100)
CARL = Allowance("carl", 1000)


class Windows:
    """In Valkey's place."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.given_back: list[str] = []
        self.counts: dict[str, int] = {}
        self.is_away = False
        self.open = asyncio.Event()
        self.open.set()

    async def acquire(self, wanted: Sequence[Allowance], given_back: Sequence[Allowance] = ()) -> list[Verdict]:
        self.trips.append([allowance.key for allowance in wanted])
        await self.open.wait()
        if self.is_away:
            raise RedisAway
        self.given_back += [allowance.key for allowance in given_back]
        return [self._count(allowance) for allowance in wanted]

    async def ping(self) -> None:
        await self.open.wait()
        if self.is_away:
            raise RedisAway

    def _count(self, allowance: Allowance) -> Verdict:
        used = self.counts.get(allowance.key, 0)
        admitted = used < allowance.amount
        self.counts[allowance.key] = used + admitted
        return Verdict(admitted, allowance, allowance.amount - used - admitted, 1.0, 60.0)


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
async def limiter(windows: Windows) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(windows, seconds=0.05, look_again_seconds=0.01)
    yield limiter
    windows.open.set()
    await limiter.close()


async def shared_again(limiter: RateLimiter) -> None:
    async with asyncio.timeout(20):
        while limiter.is_local:
            await asyncio.sleep(0.005)


async def test_who_comes_while_a_trip_is_under_way_goes_with_the_next(windows: Windows, limiter: RateLimiter) -> None:
    windows.open.clear()
    patient = RateLimiter(windows, seconds=20)
    first = asyncio.create_task(patient.admit([ANN]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(patient.admit([BOB])) for _ in range(4)]
    await asyncio.sleep(0)
    windows.open.set()
    verdicts = await asyncio.gather(first, *others)

    assert windows.trips == [["ann"], ["bob"] * 4]
    assert [verdict.remaining for verdict in verdicts if verdict] == [2, 99, 98, 97, 96]
    await patient.close()


async def test_nothing_to_hold_to_asks_nobody(windows: Windows, limiter: RateLimiter) -> None:
    assert await limiter.admit([]) is None
    assert windows.trips == []


async def test_of_several_limits_the_one_that_refuses_is_told_and_the_others_get_theirs_back(
    windows: Windows, limiter: RateLimiter
) -> None:
    for _ in range(3):
        await limiter.admit([ANN])
    refused = await limiter.admit([BOB, ANN])
    await limiter.admit([BOB])

    assert refused is not None
    assert (refused.admitted, refused.allowance) == (False, ANN)
    assert windows.given_back == ["bob"]


async def test_of_several_limits_the_one_with_the_least_left_is_told(windows: Windows, limiter: RateLimiter) -> None:
    verdict = await limiter.admit([BOB, ANN])

    assert verdict is not None
    assert (verdict.admitted, verdict.allowance, verdict.remaining) == (True, ANN, 2)


async def test_windows_that_are_away_are_not_asked_again_until_they_are_heard_of(
    windows: Windows, limiter: RateLimiter
) -> None:
    windows.is_away = True
    verdicts = [await limiter.admit([ANN]) for _ in range(5)]
    trips = len(windows.trips)
    windows.is_away = False
    await shared_again(limiter)
    after = await limiter.admit([ANN])

    assert trips == 1
    assert [verdict.admitted for verdict in verdicts if verdict] == [True] * 3 + [False] * 2
    assert after is not None
    assert after.remaining == 2, "what was counted here meanwhile is forgotten"


async def test_windows_that_hang_hold_up_those_who_asked_and_nobody_else(
    windows: Windows, limiter: RateLimiter
) -> None:
    windows.open.clear()
    waiting = [asyncio.create_task(limiter.admit([BOB])) for _ in range(3)]
    await asyncio.sleep(0.01)
    late = asyncio.create_task(limiter.admit([BOB]))
    verdicts = await asyncio.wait_for(asyncio.gather(*waiting, late), 20)
    async with asyncio.timeout(20):
        after = await limiter.admit([BOB])

    assert limiter.is_local
    assert all(verdict is not None and verdict.admitted for verdict in [*verdicts, after])
    assert len(windows.trips) == 1


async def test_a_command_that_takes_too_long_is_left_alone_and_not_cancelled(
    windows: Windows, limiter: RateLimiter
) -> None:
    windows.open.clear()
    await limiter.admit([BOB])
    was_local = limiter.is_local
    windows.open.set()
    await shared_again(limiter)

    assert was_local
    assert windows.counts == {"bob": 1}, "the trip went on to its end"


async def test_a_caller_who_goes_away_takes_nobody_along(windows: Windows) -> None:
    windows.open.clear()
    limiter = RateLimiter(windows, seconds=20)
    gone, stays = (asyncio.create_task(limiter.admit([BOB])) for _ in range(2))
    await asyncio.sleep(0.01)
    gone.cancel()
    windows.open.set()

    verdict = await asyncio.wait_for(stays, 20)
    assert verdict is not None
    assert verdict.remaining == 98
    await limiter.close()


async def test_closing_leaves_nobody_waiting(windows: Windows) -> None:
    windows.open.clear()
    limiter = RateLimiter(windows, seconds=20)
    waiting = [asyncio.create_task(limiter.admit([BOB])) for _ in range(2)]
    await asyncio.sleep(0.01)
    waiting.append(asyncio.create_task(limiter.admit([BOB])))
    await asyncio.sleep(0.01)
    await limiter.close()

    assert all(verdict is not None for verdict in await asyncio.wait_for(asyncio.gather(*waiting), 20))


def test_a_process_counts_by_itself_and_remembers_so_many_callers() -> None:
    now = 0.0
    buckets = LocalBuckets(lambda: now, most=2)
    seen = [buckets.acquire(ANN) for _ in range(4)]

    assert [verdict.admitted for verdict in seen] == [True, True, True, False]
    assert [verdict.remaining for verdict in seen] == [2, 1, 0, 0]
    assert seen[-1].free_in == pytest.approx(20)
    now = 20.0
    assert buckets.acquire(ANN).admitted
    buckets.acquire(BOB)
    buckets.acquire(Allowance("eve", 3))
    assert buckets.acquire(ANN).remaining == 2, "the one that was seen longest ago begins anew"


async def test_who_is_far_from_the_limit_passes_before_it_is_counted_one_at_a_time(windows: Windows) -> None:
    patient = RateLimiter(windows, seconds=20)
    first = await patient.admit([CARL])
    windows.open.clear()
    async with asyncio.timeout(20):
        passed = await patient.admit([CARL])
    waiting = [asyncio.create_task(patient.admit([CARL])) for _ in range(3)]
    await asyncio.sleep(0.05)
    were_waiting = not any(task.done() for task in waiting)
    windows.open.set()
    verdicts = [first, passed, *await asyncio.gather(*waiting)]
    await patient.close()

    assert were_waiting
    assert [verdict.remaining for verdict in verdicts if verdict] == [999, 998, 997, 996, 995]
    assert windows.counts == {"carl": 5}


async def test_who_was_far_while_others_used_it_up_is_let_pass_once(windows: Windows) -> None:
    patient = RateLimiter(windows, seconds=20)
    await patient.admit([CARL])
    windows.counts["carl"] = 1000
    verdicts = [await patient.admit([CARL]) for _ in range(3)]
    await patient.close()

    assert [verdict.admitted for verdict in verdicts if verdict] == [True, False, False]


async def test_who_is_near_one_of_the_limits_asks_first(windows: Windows) -> None:
    patient = RateLimiter(windows, seconds=20)
    for _ in range(2):
        await patient.admit([CARL, BOB])
    windows.open.clear()
    near = asyncio.create_task(patient.admit([CARL, BOB]))
    await asyncio.sleep(0.05)
    has_passed = near.done()
    windows.open.set()
    await near
    await patient.close()

    assert not has_passed
    assert windows.counts == {"carl": 3, "bob": 3}


async def test_who_passed_is_counted_here_when_the_windows_go_away(windows: Windows, limiter: RateLimiter) -> None:
    await limiter.admit([CARL])
    windows.is_away = True
    await limiter.admit([CARL])
    async with asyncio.timeout(20):
        while not limiter.is_local:
            await asyncio.sleep(0.005)
    verdict = await limiter.admit([CARL])

    assert verdict is not None
    assert verdict.remaining == 998
