"""Percentiles out of buckets are close to those of the values."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from itertools import pairwise

import pytest

from chat_api.analytics.histogram import BOUNDS_MS, Histogram


def histogram(values: list[int]) -> Histogram:
    filled = Histogram()
    for value in values:
        filled.add({str(bisect_right(BOUNDS_MS, value)): 1})
    return filled


def test_the_bounds_are_those_that_stored_figures_were_counted_with() -> None:
    """Other bounds would make nonsense of every day that is stored: they need a recount."""
    assert BOUNDS_MS[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16)
    assert (len(BOUNDS_MS), BOUNDS_MS[-1], sum(BOUNDS_MS)) == (84, 2**22, 26_362_082)
    assert all(upper / lower <= 1.2 for lower, upper in pairwise(BOUNDS_MS) if lower >= 23)


def test_without_values_there_are_no_percentiles() -> None:
    assert Histogram().percentiles().p50 is None


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_no_further_off_than_a_bucket_is_wide(seed: int) -> None:
    dice = random.Random(seed)
    values = sorted(int(dice.lognormvariate(6, 1.5)) + 23 for _ in range(500))
    found = histogram(values).percentiles()
    for share, close in ((0.50, found.p50), (0.95, found.p95), (0.99, found.p99)):
        exact = values[int(len(values) * share) - 1]
        assert close == pytest.approx(exact, rel=0.2)


def test_sums_of_histograms_are_histograms_of_sums() -> None:
    values = [3, 21, 22, 900, 900, 14_000, 10**8]
    whole = histogram(values)
    parts = Histogram()
    for value in values:
        parts.add(Counter({str(bisect_right(BOUNDS_MS, value)): 1}))
    parts.add({"5": 2, "60": 1})
    parts.add({"5": -2, "60": -1})
    assert parts.percentiles() == whole.percentiles()


@pytest.mark.parametrize("value", [0, 1, 2**22, 10**12])
def test_what_is_at_the_ends_has_a_place(value: int) -> None:
    found = histogram([value]).percentiles()
    assert found.p50 is not None
    assert min(value, 2**22) <= found.p50 <= max(1, min(2 * value, 2**23))
