"""How fast a socket may send frames, and when it is closed."""

from __future__ import annotations

import pytest

from chat_api.config import ApiSettings
from chat_api.realtime.limits import FrameLimit
from shared.settings import Environment

RATE, BURST = 50.0, 200


class Sender:
    """Sends frames at a steady pace, and counts what became of them."""

    def __init__(self) -> None:
        self.now = 0.0
        settings = ApiSettings(environment=Environment.TEST, ws_frames_per_second=RATE, ws_frames_burst=BURST)
        self.limit = FrameLimit(settings, lambda: self.now)
        self.allowed = 0

    def send(self, per_second: float, seconds: float) -> float | None:
        """When it was found hopeless, in seconds from now; None for never."""
        began = self.now
        for number in range(int(per_second * seconds)):
            self.now = began + number / per_second
            self.allowed += self.limit.allow()
            if self.limit.is_hopeless():
                return self.now - began
        return None


@pytest.mark.parametrize("per_second", [1, 40, 50])
def test_within_the_limit_all_pass(per_second: float) -> None:
    sender = Sender()

    assert sender.send(per_second, 60) is None
    assert sender.allowed == per_second * 60


def test_a_large_frame_counts_as_several() -> None:
    sender = Sender()
    large = 16 * 4096 - 1

    assert [sender.limit.allow(large) for _ in range(14)] == [True] * 13 + [False]
    sender.now = 60
    assert sum(sender.limit.allow(large) for _ in range(30)) == 13
    # In the long run as well, and what is short passes in between.
    allowed = 0
    for step in range(600):
        sender.now = 61 + step / 20
        allowed += sender.limit.allow(large)
    assert allowed * 16 == pytest.approx(30 * RATE, rel=0.05)
    sender.now += 5
    assert sender.limit.allow(10)


def test_a_burst_passes_and_the_next_is_refused() -> None:
    sender = Sender()

    assert [sender.limit.allow() for _ in range(BURST + 2)] == [True] * BURST + [False, False]
    assert not sender.limit.is_hopeless()


def test_somewhat_too_fast_is_slowed_down_and_not_closed() -> None:
    sender = Sender()

    assert sender.send(90, 60) is None
    assert sender.allowed == pytest.approx(BURST + 60 * RATE, abs=2)


@pytest.mark.parametrize(("per_second", "seconds"), [(1000, 0.5), (10_000, 0.05), (150, 8)])
def test_far_too_fast_is_hopeless(per_second: float, seconds: float) -> None:
    sender = Sender()

    found = sender.send(per_second, 60)

    assert found is not None
    assert found <= seconds
    assert sender.limit.is_hopeless()
