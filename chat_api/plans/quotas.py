"""Whether somebody may still use what their plan counts by the day."""

from __future__ import annotations

from uuid import UUID

from chat_api.config import Plan
from chat_api.kit.db import Database
from chat_api.plans.errors import QuotaExceeded
from chat_api.plans.ledger import DayUsed, Ledger
from chat_api.plans.people import PlansOfPeople

MESSAGE_QUOTA = "ck_user_days_messages"
"""The check that breaks where messages at once are more than is left."""


class DayQuotas:
    """Statements that use something hold the quota themselves. This says why one of them did not do it."""

    def __init__(self, database: Database, plans: PlansOfPeople) -> None:
        self._ledger = Ledger(database)
        self._plans = plans

    async def plan(self, user_id: UUID) -> Plan:
        return await self._plans.of(user_id)

    async def check_messages(self, user_id: UUID) -> None:
        """Raises `QuotaExceeded` where no message may be sent any more today."""
        plan, used = await self._now(user_id)
        if used is not None and plan.messages_per_day is not None and used.messages >= plan.messages_per_day:
            raise QuotaExceeded.of("messages", plan.messages_per_day, used.resets_in)

    async def check_tokens(self, user_id: UUID) -> None:
        """Raises `QuotaExceeded` where no reply may begin any more today."""
        plan, used = await self._now(user_id)
        if used is not None and plan.tokens_per_day is not None and used.tokens >= plan.tokens_per_day:
            raise QuotaExceeded.of("tokens", plan.tokens_per_day, used.resets_in)

    async def add_tokens(self, user_id: UUID, tokens: int) -> None:
        """Count what was used without a run."""
        await self._ledger.add_tokens(user_id, tokens)

    async def _now(self, user_id: UUID) -> tuple[Plan, DayUsed | None]:
        """The plan as it is stored, which may be another than the one that was remembered."""
        used = await self._ledger.today(user_id)
        if used is None:
            return await self._plans.of(user_id), None
        self._plans.remember(user_id, used.plan)
        return self._plans.named(used.plan), used
