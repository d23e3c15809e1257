"""Bursts, and what comes back with time."""

from __future__ import annotations

import pytest

from chat_api.kit.token_bucket import TokenBucket


def test_a_burst_is_all_there_is_at_once() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100.0)

    assert [bucket.take(100.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]


def test_what_is_taken_comes_back_with_time_and_no_further_than_the_burst() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=0.0)
    for _ in range(3):
        bucket.take(0.0)

    assert bucket.take(0.4) == pytest.approx(0.1)
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) == pytest.approx(0.5)
    assert [bucket.take(1000.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=0.0)
    bucket.take(0.0)
    for _ in range(100):
        assert bucket.take(0.5) == 0.5

    assert bucket.take(1.0) == 0


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=10.0)

    assert bucket.take(5.0) == 0
    assert bucket.take(5.0) == 0
    assert bucket.take(5.0) == 1
