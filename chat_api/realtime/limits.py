"""How fast a socket may send frames."""

from __future__ import annotations

import time
from collections.abc import Callable

from chat_api.config import ApiSettings
from chat_api.kit.token_bucket import TokenBucket

_CHARACTERS_PER_FRAME = 4096
"""A larger frame counts as several: to find out what is wrong with 64 KiB may take 10 ms."""


class FrameLimit:
    """Of one socket. A frame beyond the limit is refused; who goes on all the same is hopeless after a while."""

    def __init__(self, settings: ApiSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._allowed = _bucket(settings, now())
        # What is refused is counted the same way: at less than twice the rate a socket is slowed down, for ever if
        # need be, and beyond that it is closed. At ten times the rate that takes half a second after the burst.
        self._refused = _bucket(settings, now())
        self._is_hopeless = False

    def allow(self, characters: int = 0) -> bool:
        """Whether the frame that came now, of this length, may be looked at."""
        now = self._now()
        if not self._allowed.take(now, 1 + characters // _CHARACTERS_PER_FRAME):
            return True
        if self._refused.take(now):
            self._is_hopeless = True
        return False

    def is_hopeless(self) -> bool:
        """Whether so much was refused that the socket had better be closed."""
        return self._is_hopeless


def _bucket(settings: ApiSettings, now: float) -> TokenBucket:
    return TokenBucket(rate=settings.ws_frames_per_second, burst=settings.ws_frames_burst, now=now)
