"""Times in buckets, so that the percentiles of many days are known from sums of small tables.

The buckets are fixed, and each is about 19 % wider than the one before: no percentile is further off than that,
whatever is summed, and a recount of the rows falls into the same buckets. Percentiles of averages would mean nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

_PER_DOUBLING = 4
_LONGEST_DOUBLINGS = 22

BOUNDS_MS = tuple(
    sorted({round(2 ** (step / _PER_DOUBLING)) for step in range(_LONGEST_DOUBLINGS * _PER_DOUBLING + 1)})
)
"""Milliseconds, from 1 to 70 minutes. Bucket `n` is from bound `n - 1` up to bound `n`; 0 is below the first."""

BUCKET = f"width_bucket({{}}, ARRAY[{', '.join(map(str, BOUNDS_MS))}]::bigint[])"
"""The bucket of a column of milliseconds, as PostgreSQL finds it."""

_EDGES = tuple(pairwise((0, *BOUNDS_MS, BOUNDS_MS[-1] * 2)))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds; None where nothing was timed."""

    p50: float | None
    p95: float | None
    p99: float | None


class Histogram:
    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, counts: Mapping[str, int]) -> None:
        """More times, by the bucket's number as JSON has it."""
        for bucket, number in counts.items():
            self._counts[int(bucket)] += number

    def percentiles(self) -> Percentiles:
        return Percentiles(self._at(0.50), self._at(0.95), self._at(0.99))

    def _at(self, share: float) -> float | None:
        """The time that this share of them did not exceed, taken as spread evenly within its bucket."""
        total = self._counts.total()
        if total <= 0:
            return None
        rank = max(1, math.ceil(total * share))
        below = 0
        for bucket in sorted(self._counts):
            number = self._counts[bucket]
            if below + number >= rank:
                lower, upper = _EDGES[bucket]
                return round(lower + (upper - lower) * (rank - below) / number, 1)
            below += number
        raise AssertionError("the last bucket holds the last rank")
