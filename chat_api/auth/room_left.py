"""What a process has heard of callers who are far from their limits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from chat_api.auth.rate_windows import Allowance, Verdict

FAR = 100
"""Requests that have to be left, beside half of the allowance: more than all processes have under way for a caller."""
_MOST_CALLERS = 20_000


class RoomLeft:
    """One per process. It keeps the callers that it heard of last, each for the minute that was spoken of."""

    def __init__(self, now: Callable[[], float], *, most: int = _MOST_CALLERS) -> None:
        self._now = now
        self._most = most
        self._heard: OrderedDict[str, tuple[Verdict, float]] = OrderedDict()
        self._uncounted: set[str] = set()

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Take the latest word on each; who is near a limit is forgotten, and asks from now on."""
        now = self._now()
        for verdict in verdicts:
            key = verdict.allowance.key
            if not verdict.admitted or verdict.remaining <= max(FAR, verdict.allowance.amount // 2):
                self._heard.pop(key, None)
                continue
            self._heard[key] = (verdict, now)
            self._heard.move_to_end(key)
            if len(self._heard) > self._most:
                self._heard.popitem(last=False)

    def take(self, allowances: Sequence[Allowance]) -> Verdict | None:
        """What to tell a request that may pass before it is counted; None for one that has to ask first.

        Of the same caller there is one such request at a time, until `counted`.
        """
        told: Verdict | None = None
        for allowance in allowances:
            verdict = self._known(allowance)
            if verdict is None:
                return None
            if told is None or verdict.remaining < told.remaining:
                told = verdict
        self._uncounted.update(allowance.key for allowance in allowances)
        return told

    def counted(self, allowances: Sequence[Allowance]) -> None:
        """Whoever was let pass has been counted, or cannot be."""
        self._uncounted.difference_update(allowance.key for allowance in allowances)

    def _known(self, allowance: Allowance) -> Verdict | None:
        heard = self._heard.get(allowance.key)
        if heard is None or allowance.key in self._uncounted:
            return None
        verdict, at = heard
        resets_in = verdict.resets_in - (self._now() - at)
        # Of a plan that was changed, or of a minute that is over, nothing is known.
        if verdict.allowance != allowance or resets_in <= 0:
            return None
        return replace(verdict, remaining=verdict.remaining - 1, free_in=0.0, resets_in=resets_in)
