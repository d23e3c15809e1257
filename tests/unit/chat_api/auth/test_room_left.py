"""What a process heard of those who are far from their limits, and how long that holds."""

from __future__ import annotations

import pytest

from chat_api.auth.rate_windows import Allowance, Verdict
from chat_api.auth.room_left import FAR, RoomLeft

ANN, BOB = Allowance("ann", 1000), Allowance("bob", 1000)


class Now:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


def verdict(allowance: Allowance, remaining: int, *, admitted: bool = True) -> Verdict:
    return Verdict(admitted, allowance, remaining, 0.0, 30.0)


def test_it_tells_what_is_left_after_the_request_and_when_the_minute_is_over(now: Now) -> None:
    room = RoomLeft(now)
    room.learn([verdict(ANN, 900), verdict(BOB, 800)])
    now.seconds += 10

    told = room.take([ANN, BOB])

    assert told is not None
    assert (told.admitted, told.allowance, told.remaining, told.resets_in) == (True, BOB, 799, 20.0)


def test_there_is_one_at_a_time_until_it_is_counted(now: Now) -> None:
    room = RoomLeft(now)
    room.learn([verdict(ANN, 900), verdict(BOB, 900)])

    assert room.take([ANN]) is not None
    assert room.take([BOB, ANN]) is None
    assert room.take([BOB]) is not None, "who could not pass holds nothing"
    room.counted([ANN])
    assert room.take([ANN]) is not None


@pytest.mark.parametrize(
    ("allowance", "remaining", "admitted"),
    [(ANN, 500, True), (Allowance("ann", 150), FAR, True), (ANN, 900, False)],
    ids=["half is used", "few are left", "refused"],
)
def test_near_a_limit_nothing_is_known(now: Now, allowance: Allowance, remaining: int, admitted: bool) -> None:
    room = RoomLeft(now)
    room.learn([verdict(allowance, 900)])
    room.learn([verdict(allowance, remaining, admitted=admitted)])

    assert room.take([allowance]) is None


def test_of_a_minute_that_is_over_and_of_another_plan_nothing_is_known(now: Now) -> None:
    room = RoomLeft(now)
    room.learn([verdict(ANN, 900), verdict(BOB, 900)])

    assert room.take([Allowance("ann", 2000)]) is None
    now.seconds += 30
    assert room.take([BOB]) is None


def test_it_keeps_those_that_it_heard_of_last(now: Now) -> None:
    room = RoomLeft(now, most=1)
    room.learn([verdict(ANN, 900), verdict(BOB, 900)])

    assert room.take([ANN]) is None
    assert room.take([BOB]) is not None
