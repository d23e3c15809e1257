"""What plans there are, and what somebody uses of theirs."""

from __future__ import annotations

from uuid import UUID

from chat_api.config import DEFAULT_PLAN, ApiSettings
from chat_api.kit.db import Database
from chat_api.plans.ledger import Ledger
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.schemas import PlanRead, QuotaRead, UsageRead
from chat_api.plans.storage import STORED
from shared.problems import NotAuthenticated

_STORED = STORED.format(person="$1")


class PlanService:
    def __init__(self, database: Database, settings: ApiSettings, plans: PlansOfPeople) -> None:
        self._database = database
        self._ledger = Ledger(database)
        self._settings = settings
        self._plans = plans

    def all(self) -> list[PlanRead]:
        """In the order of the settings."""
        return [PlanRead.of(name, plan) for name, plan in self._settings.plans.items()]

    async def usage(self, user_id: UUID) -> UsageRead:
        """Raises `NotAuthenticated` for an account that is not there any more."""
        used = await self._ledger.today(user_id)
        stored = await self._database.fetch_row(_STORED, user_id)
        if used is None or stored is None:
            raise NotAuthenticated("The account is closed.")
        plan = self._plans.named(used.plan)
        return UsageRead(
            plan=used.plan if used.plan in self._settings.plans else DEFAULT_PLAN,
            day=used.day,
            resets_at=used.resets_at,
            messages=QuotaRead.of(used.messages, plan.messages_per_day),
            tokens=QuotaRead.of(used.tokens, plan.tokens_per_day),
            documents=QuotaRead.of(stored["documents"], plan.documents),
            storage_bytes=QuotaRead.of(stored["bytes"], plan.storage_bytes),
        )
