"""How fast one person may send messages."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from chat_api.config import ApiSettings
from chat_api.kit.token_bucket import TokenBucket
from chat_api.runs.errors import TooManyMessages


class SendLimit:
    """One per process: for all sockets and requests of a person together.

    It bounds what one account can do to the others, and is no quota: with several processes, each has its own.
    """

    def __init__(self, settings: ApiSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = settings.user_sends_per_second
        self._burst = settings.user_sends_burst
        self._now = now
        # In the order of their last use. Who sent nothing for long enough has a full bucket, which is as good as none.
        self._buckets: OrderedDict[UUID, tuple[TokenBucket, float]] = OrderedDict()

    def __len__(self) -> int:
        """People that it remembers: those who sent something lately."""
        return len(self._buckets)

    def count(self, user_id: UUID) -> None:
        """Count one message that somebody sends. Raises `TooManyMessages`."""
        now = self._now()
        known = self._buckets.get(user_id)
        bucket = TokenBucket(rate=self._rate, burst=self._burst, now=now) if known is None else known[0]
        wait = bucket.take(now)
        self._buckets[user_id] = (bucket, now)
        self._buckets.move_to_end(user_id)
        self._forget(now - self._burst / self._rate)
        if wait > 0:
            raise TooManyMessages(retry_after=math.ceil(wait))

    def _forget(self, before: float) -> None:
        """Each call makes one entry at most, so that removing all that are due costs little a call."""
        while True:
            user_id, (_, used_at) = next(iter(self._buckets.items()))
            if used_at > before:
                return
            del self._buckets[user_id]
