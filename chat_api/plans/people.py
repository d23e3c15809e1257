"""Which plan somebody has, without a statement for each request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from chat_api.config import DEFAULT_PLAN, ApiSettings, Plan
from chat_api.kit.db import Database, is_store_down

_PLAN = "SELECT plan FROM chat.users WHERE id = $1"
_MOST_PEOPLE = 20_000
_LOOK_SECONDS = 0.5


class PlansOfPeople:
    """One per process. A plan that somebody else changed holds here after `plan_seconds` at the latest.

    Whoever is refused for the sake of a plan is looked at anew, so that a larger plan helps at once.
    """

    def __init__(self, database: Database, settings: ApiSettings, *, now: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._plans = settings.plans
        self._seconds = settings.plan_seconds
        self._now = now
        self._known: OrderedDict[UUID, tuple[str, float]] = OrderedDict()

    def named(self, name: str) -> Plan:
        """A plan that the settings do not have any more counts as the default one."""
        return self._plans.get(name) or self._plans[DEFAULT_PLAN]

    async def of(self, user_id: UUID) -> Plan:
        """Of somebody who is not there, or with the store away, the default one: neither is for us to say.

        A store that is slow is not waited for here: what comes after will wait for it as long as one may.
        """
        known = self._known.get(user_id)
        if known is not None and self._now() - known[1] < self._seconds:
            return self.named(known[0])
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                row = await self._database.fetch_row(_PLAN, user_id)
        except Exception as error:
            if not is_store_down(error):
                raise
            return self.named(DEFAULT_PLAN if known is None else known[0])
        if row is None:
            return self.named(DEFAULT_PLAN)
        self.remember(user_id, row["plan"])
        return self.named(row["plan"])

    def remember(self, user_id: UUID, name: str) -> None:
        self._known[user_id] = (name, self._now())
        self._known.move_to_end(user_id)
        if len(self._known) > _MOST_PEOPLE:
            self._known.popitem(last=False)

    def forget(self, user_id: UUID) -> None:
        self._known.pop(user_id, None)
