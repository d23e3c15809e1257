"""Giving somebody another plan."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.audit.service import AuditLog
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database, after_commit
from chat_api.plans.people import PlansOfPeople
from chat_api.users.errors import UserNotFound
from chat_api.users.models import User
from chat_api.users.repository import UserRepository
from chat_api.users.schemas import UserRead
from shared.logging import get_logger
from shared.problems import FieldError, ValidationFailed

log = get_logger("users")


class PlanChanges:
    """`plans` is what this process knows of people's plans; None where it answers nobody."""

    def __init__(
        self, db: AsyncSession, settings: ApiSettings, clock: Clock, audit: AuditLog, plans: PlansOfPeople | None
    ) -> None:
        self._db = db
        self._users = UserRepository(db)
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._plans = plans

    async def change(self, actor_id: UUID | None, user_id: UUID, plan: str | None) -> UserRead:
        """Noted in the audit log, with the earlier plan; None leaves it. `actor_id` is None for the command line.

        Raises `UserNotFound`, and `ValidationFailed` for a plan that is not in the settings.
        """
        return await self._change(actor_id, await self._users.lock(user_id), plan)

    async def change_by_name(self, name: str, plan: str) -> UserRead:
        """The same for the command line, by username or email address."""
        found = await self._users.by_name(name)
        return await self._change(None, None if found is None else await self._users.lock(found.id), plan)

    async def _change(self, actor_id: UUID | None, user: User | None, plan: str | None) -> UserRead:
        if user is None or not user.is_active:
            raise UserNotFound
        if plan is None:
            return UserRead.model_validate(user)
        if plan not in self._settings.plans:
            message = f"There is no such plan; there are {', '.join(self._settings.plans)}"
            raise ValidationFailed(errors=[FieldError(loc=["body", "plan"], msg=message, type="plan")])
        if user.plan != plan:
            details = {"from": user.plan, "to": plan}
            await self._audit.record(
                actor_id, "user.plan_changed", subject_type="user", subject_id=user.id, details=details
            )
            user.plan = plan
            user.updated_at = self._clock.now()
            await self._users.save(user)
            log.info("user.plan_changed", user_id=user.id, plan=plan)
            plans, user_id = self._plans, user.id
            if plans is not None:
                after_commit(self._db, lambda: plans.remember(user_id, plan))
        return UserRead.model_validate(user)


async def change_plan(settings: ApiSettings, name: str, plan: str) -> UserRead:
    """For the command line. Raises `UserNotFound`, and `ValidationFailed` for a plan that is not in the settings."""
    clock = SystemClock()
    database = await Database.open(settings)
    try:
        async with database.unit() as db:
            return await PlanChanges(db, settings, clock, AuditLog(db, clock), None).change_by_name(name, plan)
    finally:
        await database.close()
