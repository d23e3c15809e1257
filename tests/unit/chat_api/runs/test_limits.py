"""How fast one person may send."""

from __future__ import annotations

from uuid import UUID

import pytest

from chat_api.config import ApiSettings
from chat_api.runs.errors import TooManyMessages
from chat_api.runs.limits import SendLimit
from shared.settings import Environment

ANN, BOB = UUID(int=1), UUID(int=2)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limit(time: Time) -> SendLimit:
    settings = ApiSettings(environment=Environment.TEST, user_sends_per_second=0.5, user_sends_burst=3)
    return SendLimit(settings, time)


def refused(limit: SendLimit, user_id: UUID) -> int | None:
    """Seconds to wait, or None for one that counts."""
    try:
        limit.count(user_id)
    except TooManyMessages as problem:
        return problem.retry_after
    return None


def test_a_burst_then_as_much_as_comes_back(limit: SendLimit, time: Time) -> None:
    assert [refused(limit, ANN) for _ in range(4)] == [None, None, None, 2]
    time.now += 0.5
    assert refused(limit, ANN) == 2
    time.now += 1.4
    assert refused(limit, ANN) == 1
    time.now += 0.1
    assert refused(limit, ANN) is None


def test_people_do_not_use_up_each_others(limit: SendLimit) -> None:
    for _ in range(10):
        refused(limit, ANN)

    assert refused(limit, BOB) is None


def test_who_sends_no_more_is_forgotten_and_nobody_else(limit: SendLimit, time: Time) -> None:
    for number in range(500):
        limit.count(UUID(int=number + 10))
    time.now += 3
    for _ in range(3):
        limit.count(ANN)
    assert len(limit) == 501
    time.now += 3

    assert refused(limit, ANN) is None
    assert refused(limit, ANN) == 1

    assert len(limit) == 1


def test_being_forgotten_gives_no_more_than_waiting_does(limit: SendLimit, time: Time) -> None:
    for _ in range(3):
        limit.count(ANN)
    time.now += 5.9
    limit.count(BOB)
    assert len(limit) == 2
    time.now += 0.1
    limit.count(BOB)
    assert len(limit) == 1

    assert [refused(limit, ANN) for _ in range(4)] == [None, None, None, 2]
