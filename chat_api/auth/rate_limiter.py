"""How many requests somebody may make, over all processes; and without Valkey, in each by itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from redis.exceptions import RedisError

from chat_api.auth.rate_windows import Allowance, Verdict
from chat_api.auth.room_left import RoomLeft
from chat_api.kit.token_bucket import TokenBucket
from shared.logging import get_logger

log = get_logger("rate_limits")

_AWAY = (RedisError, TimeoutError, OSError)
_LOOK_AGAIN_SECONDS = 1.0
_MOST_CALLERS = 20_000
_CLOSE_SECONDS = 1.0

Waiting = tuple[Sequence[Allowance], asyncio.Future[list[Verdict] | None]]


class Windows(Protocol):
    """Where all processes count. `RateWindows` is the one in Valkey."""

    async def acquire(self, wanted: Sequence[Allowance], given_back: Sequence[Allowance] = ()) -> list[Verdict]: ...

    async def ping(self) -> None:
        """Both raise what the client does when Valkey is not there, and after a while when it does not answer."""


class LocalBuckets:
    """What one process counts by itself. It keeps the callers that it saw last."""

    def __init__(self, now: Callable[[], float], *, most: int = _MOST_CALLERS) -> None:
        self._now = now
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def acquire(self, allowance: Allowance) -> Verdict:
        now, rate = self._now(), allowance.amount / allowance.seconds
        bucket = self._buckets.get(allowance.key)
        if bucket is None:
            bucket = self._buckets[allowance.key] = TokenBucket(rate=rate, burst=allowance.amount, now=now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(allowance.key)
        wait = bucket.take(now)
        return Verdict(
            admitted=wait == 0,
            allowance=allowance,
            remaining=bucket.left,
            free_in=wait,
            resets_in=(allowance.amount - bucket.left) / rate,
        )


class RateLimiter:
    """One per process. Nobody waits for a Valkey that does not answer, but those who had asked it when it stopped.

    Requests that come while an answer is on its way go together in the next trip: under load a trip carries many, and
    costs each a fraction. Once a trip fails, everybody is counted here, until a task of our own has heard from Valkey
    again.

    Who was far from their limit a moment ago does not wait for the trip that counts them: each process lets one such
    request of theirs pass at a time, so with several it may be one for each but one that is let pass too many.
    """

    def __init__(
        self,
        windows: Windows | None,
        *,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> None:
        self._windows = windows
        self._seconds = seconds
        self._look_again_seconds = look_again_seconds
        self._local = LocalBuckets(now)
        self._room = RoomLeft(now)
        self._waiting: list[Waiting] = []
        self._given_back: list[Allowance] = []
        self._trips: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[list[Verdict]]] = set()
        self._closing = asyncio.Event()

    @property
    def is_local(self) -> bool:
        """Whether this process counts by itself now."""
        return self._windows is None or self._probe is not None

    async def admit(self, allowances: Sequence[Allowance]) -> Verdict | None:
        """Count one request against all of these, or against none where one of them has no room.

        Returns the verdict of the one with the least left, the first that refused; None where there is nothing to
        hold to. Raises nothing for a Valkey that is away.
        """
        if not allowances:
            return None
        if not self.is_local and (known := self._room.take(allowances)) is not None:
            self._ask(allowances).add_done_callback(functools.partial(self._counted, allowances))
            return known
        verdicts = None if self.is_local else await self._ask(allowances)
        if verdicts is None:
            verdicts = [self._local.acquire(allowance) for allowance in allowances]
        elif not all(verdict.admitted for verdict in verdicts):
            self._given_back += [verdict.allowance for verdict in verdicts if verdict.admitted]
        return min(verdicts, key=lambda verdict: (verdict.admitted, verdict.remaining))

    async def close(self) -> None:
        """Wait for what was asked, which the client's own limits end: a command must not be cancelled half-way."""
        self._closing.set()
        under_way = [task for task in (self._trips, self._probe, *self._calls) if task is not None]
        if under_way:
            _, rest = await asyncio.wait(under_way, timeout=_CLOSE_SECONDS)
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    def _ask(self, allowances: Sequence[Allowance]) -> asyncio.Future[list[Verdict] | None]:
        """None where Valkey did not say."""
        answer: asyncio.Future[list[Verdict] | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((allowances, answer))
        if self._trips is None:
            self._trips = asyncio.create_task(self._travel(), name="rate-limits")
        return answer

    def _counted(self, allowances: Sequence[Allowance], answer: asyncio.Future[list[Verdict] | None]) -> None:
        """Of a request that passed before it was counted."""
        self._room.counted(allowances)
        if answer.result() is None:
            for allowance in allowances:
                self._local.acquire(allowance)

    async def _travel(self) -> None:
        """One trip after the other, for as long as somebody waits."""
        try:
            while self._waiting and not self._closing.is_set():
                together, self._waiting = self._waiting, []
                try:
                    await self._trip(together)
                finally:
                    # Whatever happened, also a stop: nobody is left waiting.
                    for _, answer in together:
                        if not answer.done():
                            answer.set_result(None)
        finally:
            self._trips = None
            for _, answer in self._waiting:
                if not answer.done():
                    answer.set_result(None)
            self._waiting = []

    async def _trip(self, together: Sequence[Waiting]) -> None:
        assert self._windows is not None
        given_back, self._given_back = self._given_back, []
        wanted = [allowance for allowances, _ in together for allowance in allowances]
        # Left alone, not cancelled, when it takes too long: half a command would leave its connection with an answer
        # that nobody expects. The client gives it up by itself.
        call = asyncio.create_task(self._windows.acquire(wanted, given_back), name="rate-limits-trip")
        self._calls.add(call)
        call.add_done_callback(self._forget)
        await asyncio.wait({call}, timeout=self._seconds)
        if not call.done():
            self._count_here(TimeoutError())
            return
        try:
            verdicts = call.result()
        except _AWAY as error:
            self._count_here(error)
            return
        self._room.learn(verdicts)
        at = 0
        for allowances, answer in together:
            # Whoever asked may have gone meanwhile.
            if not answer.done():
                answer.set_result(verdicts[at : at + len(allowances)])
            at += len(allowances)

    def _forget(self, call: asyncio.Task[list[Verdict]]) -> None:
        self._calls.discard(call)
        # Of a call that was left alone nobody else asks how it ended.
        if not call.cancelled():
            call.exception()

    def _count_here(self, error: BaseException) -> None:
        if self._probe is None:
            log.warning("rate_limits.local", error=type(error).__name__)
            self._probe = asyncio.create_task(self._look_again(), name="rate-limits-probe")
        # Who waits for the next trip would wait for nothing.
        for _, answer in self._waiting:
            if not answer.done():
                answer.set_result(None)
        self._waiting = []

    async def _look_again(self) -> None:
        assert self._windows is not None
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_again_seconds):
                    await self._closing.wait()
                    return
            try:
                await self._windows.ping()
            except _AWAY:
                continue
            log.info("rate_limits.shared")
            self._probe = None
            return
