"""A circuit breaker: after some failures in a row, calls fail at once for a while, then one may try.

It keeps a dead agent from holding every request for a time-out, and a reviving one from being buried.
The pattern is M. Nygard's (Release It!, 2007).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class CircuitBreaker:
    """`failures` in a row open it for `open_seconds`; then one call at a time is let through to probe."""

    def __init__(self, failures: int, open_seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._threshold = failures
        self._open_seconds = open_seconds
        self._now = now
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def allow(self) -> bool:
        """Whether a call may be made now. A call that was allowed must report `succeeded` or `failed`."""
        if self._opened_at is None:
            return True
        if self._probing or self._now() - self._opened_at < self._open_seconds:
            return False
        self._probing = True
        return True

    def retry_after(self) -> int:
        """Whole seconds until a call has a chance, at least 1."""
        if self._opened_at is None:
            return 1
        return max(1, math.ceil(self._opened_at + self._open_seconds - self._now()))

    def succeeded(self) -> None:
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def failed(self) -> None:
        self._failures += 1
        self._probing = False
        if self._failures >= self._threshold:
            self._opened_at = self._now()

    def abandoned(self) -> None:
        """The call was cancelled before it showed anything."""
        self._probing = False
