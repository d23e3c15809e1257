"""Counting requests in Valkey, where all processes see it: the windows of the library `limits`, many in one trip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limits.aio.storage.redis.bridge import RedisBridge
from redis.asyncio import Redis

_MILLISECONDS = 1000
_NOTHING = (None, -2, None, -2)


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most `amount` requests in any `seconds`, by whoever `key` stands for."""

    key: str
    amount: int
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may be answered.

    Times are in seconds: `free_in` until there is room for one more, `resets_in` until the minute that runs is over.
    """

    admitted: bool
    allowance: Allowance
    remaining: int
    free_in: float
    resets_in: float


_TOGETHER = f"""
local function acquire(KEYS, ARGV)
{RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()}
end
local function read(KEYS, ARGV)
{RedisBridge.SCRIPT_SLIDING_WINDOW.decode()}
end
local answers = {{}}
for at = 1, #KEYS / 2 do
    local keys = {{KEYS[2 * at - 1], KEYS[2 * at]}}
    local amount, seconds, cost = ARGV[3 * at - 2], ARGV[3 * at - 1], ARGV[3 * at]
    answers[at] = {{acquire(keys, {{amount, seconds, cost}}), read(keys, {{seconds}})}}
end
return answers
"""
"""The library's two scripts, for many callers at once: one decides and counts, one says what is left afterwards."""


class RateWindows:
    """Sliding windows: the minute that runs, and the one before as far as it still counts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._together = redis.register_script(_TOGETHER)

    async def acquire(self, wanted: Sequence[Allowance], given_back: Sequence[Allowance] = ()) -> list[Verdict]:
        """Uncount `given_back`, then count a request for each of `wanted` that has room for it: one trip, one script.

        Raises what the client does when Valkey is not there.
        """
        keys: list[str] = []
        arguments: list[str] = []
        for allowances, cost in ((given_back, "-1"), (wanted, "1")):
            for allowance in allowances:
                keys += _keys(allowance)
                arguments += (str(allowance.amount), str(allowance.seconds), cost)
        answers = await self._together(keys=keys, args=arguments)
        counted = zip(wanted, answers[len(given_back) :], strict=True)
        return [_verdict(allowance, bool(admitted), window) for allowance, (admitted, window) in counted]

    async def ping(self) -> None:
        await self._redis.ping()


def _keys(allowance: Allowance) -> tuple[str, str]:
    """Of the minute before and of this one."""
    current = f"colloquy:rate:{allowance.key}"
    return f"{current}/-1", current


def _verdict(allowance: Allowance, admitted: bool, window: Sequence[Any] | None) -> Verdict:
    earlier, earlier_ttl, now, now_ttl = window or _NOTHING
    span = allowance.seconds * _MILLISECONDS
    earlier, now = int(earlier or 0), int(now or 0)
    earlier_ttl, now_ttl = max(0, int(earlier_ttl)), max(0, int(now_ttl))
    weighted = math.floor(earlier * earlier_ttl / span) + now
    # What was before fades evenly. What is now begins to fade when its minute is over: its key lives for two.
    left = max(0, now_ttl - span)
    fades = earlier_ttl % (span / earlier) if earlier and earlier_ttl else left
    return Verdict(
        admitted=admitted,
        allowance=allowance,
        remaining=max(0, allowance.amount - weighted),
        free_in=min(fades, left) / _MILLISECONDS,
        resets_in=left / _MILLISECONDS,
    )
