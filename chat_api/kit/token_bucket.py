"""A limit that allows bursts: so many at once, and so many a second in the long run."""

from __future__ import annotations


class TokenBucket:
    """Starts full with `burst` tokens and gains `rate` a second. Times are monotonic, in seconds, and handed in."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    @property
    def left(self) -> int:
        """Whole tokens that there were at the last `take`, after it."""
        return max(0, int(self._tokens))

    def take(self, now: float, tokens: int = 1) -> float:
        """Take tokens and return 0, or take none and return the seconds until there is one.

        Where there is one, more than there are may be taken: the next has to wait for longer.
        """
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= tokens
        return 0.0
