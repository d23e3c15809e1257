"""The circuit breaker, by a clock that stands still until it is moved."""

from __future__ import annotations

import pytest

from chat_api.clients.circuit import CircuitBreaker


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def breaker(seconds: Seconds) -> CircuitBreaker:
    return CircuitBreaker(3, 10.0, now=seconds)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert breaker.allow()
        breaker.failed()


def test_a_few_failures_leave_it_closed(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert breaker.allow()
    assert not breaker.is_open


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    assert breaker.is_open
    assert not breaker.allow()


def test_a_success_between_starts_the_count_afresh(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.is_open


def test_it_stays_open_for_its_time(breaker: CircuitBreaker, seconds: Seconds) -> None:
    fail(breaker, 3)
    seconds.now += 9.99
    assert not breaker.allow()
    seconds.now += 0.01
    assert breaker.allow()


def test_one_call_at_a_time_probes(breaker: CircuitBreaker, seconds: Seconds) -> None:
    fail(breaker, 3)
    seconds.now += 10
    assert [breaker.allow() for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it(breaker: CircuitBreaker, seconds: Seconds) -> None:
    fail(breaker, 3)
    seconds.now += 10
    assert breaker.allow()
    breaker.succeeded()
    assert not breaker.is_open
    fail(breaker, 2)
    assert breaker.allow()


def test_a_probe_that_fails_opens_it_again(breaker: CircuitBreaker, seconds: Seconds) -> None:
    fail(breaker, 3)
    seconds.now += 10
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()
    seconds.now += 10
    assert breaker.allow()


def test_a_probe_that_was_cancelled_makes_room_for_another(breaker: CircuitBreaker, seconds: Seconds) -> None:
    fail(breaker, 3)
    seconds.now += 10
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.is_open
    assert breaker.allow()


@pytest.mark.parametrize(
    ("passed", "wait"), [(0.0, 10), (0.5, 10), (5.0, 5), (7.0, 3), (8.1, 2), (9.5, 1), (10.0, 1), (60.0, 1)]
)
def test_it_says_how_long_to_wait_in_whole_seconds(
    breaker: CircuitBreaker, seconds: Seconds, passed: float, wait: int
) -> None:
    fail(breaker, 3)
    seconds.now += passed
    assert breaker.retry_after() == wait


def test_a_closed_one_asks_for_the_least(breaker: CircuitBreaker) -> None:
    assert breaker.retry_after() == 1
