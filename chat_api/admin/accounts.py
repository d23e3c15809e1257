"""What administrators do to accounts. Every change is in the audit log, of the same commit."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.admin.desk import Admin, Desk
from chat_api.audit.service import AuditLog
from chat_api.auth.models import RefreshFamily, RevocationReason
from chat_api.config import ApiSettings
from chat_api.plans.people import PlansOfPeople
from chat_api.users.models import User
from chat_api.users.plan_changes import PlanChanges
from shared.logging import get_logger
from shared.problems import Problem, ValidationFailed

log = get_logger("admin")


class NotOwnAccount(Problem):
    status = 409
    code = "not-own-account"
    title = "Not to your own account"
    detail = "Another administrator has to do this to your account."


class NoSuchAccount(Problem):
    status = 404
    code = "user-not-found"
    title = "User not found"
    detail = "There is no such account."


class NoSuchPlan(Problem):
    status = 422
    code = "plan-not-found"
    title = "Plan not found"
    detail = "There is no such plan."


class BeingErased(Problem):
    status = 409
    code = "account-being-erased"
    title = "The account is being erased"
    detail = "Its owner asked for that, so it cannot be opened again."


class NoLongerAdmin(Problem):
    status = 403
    code = "admin-required"
    title = "Administrators only"
    detail = "You are no administrator any more."


class AccountDesk:
    """Nobody closes or demotes themselves, so somebody who is an administrator is always left."""

    def __init__(
        self,
        desk: Desk,
        settings: ApiSettings,
        people: PlansOfPeople,
        *,
        on_closed: Callable[[UUID], None],
    ) -> None:
        """`on_closed` is called when that is committed: what this process remembers of somebody is out of date."""
        self._desk = desk
        self._settings = settings
        self._people = people
        self._on_closed = on_closed

    @property
    def plans(self) -> list[str]:
        return list(self._settings.plans)

    async def close(self, admin: Admin, user_id: UUID) -> None:
        """End the account's sign-ins; its keys rest, what it owns stays. Raises `NotOwnAccount`, `NoSuchAccount`."""
        await self._set(admin, user_id, "user.closed", is_active=False)
        self._on_closed(user_id)

    async def reopen(self, admin: Admin, user_id: UUID) -> None:
        """Its owner may sign in again, and their keys work. Raises `NoSuchAccount`, `BeingErased`."""
        await self._set(admin, user_id, "user.reopened", is_active=True)

    async def promote(self, admin: Admin, user_id: UUID) -> None:
        """Raises `NoSuchAccount`."""
        await self._set(admin, user_id, "user.made_admin", is_admin=True)

    async def demote(self, admin: Admin, user_id: UUID) -> None:
        """Counts at once, here and at the API. Their sign-ins end, so that the right, given back, opens no old one.

        Raises `NotOwnAccount`, `NoSuchAccount`.
        """
        await self._set(admin, user_id, "user.unmade_admin", is_admin=False)

    async def set_plan(self, admin: Admin, user_id: UUID, plan: str) -> None:
        """As over the API. Raises `NoSuchPlan`, `NoSuchAccount`, and `UserNotFound` for an account that is closed."""
        async with self._desk.unit() as db:
            await self._locked(db, admin, user_id)
            clock = self._desk.clock
            changes = PlanChanges(db, self._settings, clock, AuditLog(db, clock), self._people)
            try:
                await changes.change(admin.id, user_id, plan)
            except ValidationFailed:
                raise NoSuchPlan from None

    async def _locked(self, db: AsyncSession, admin: Admin, user_id: UUID) -> User:
        # Both rows, in one order for all: of two administrators who demote each other, one is too late.
        locked = await db.execute(
            select(User).where(User.id.in_({admin.id, user_id})).order_by(User.id).with_for_update(key_share=True)
        )
        rows = {user.id: user for user in locked.scalars()}
        actor, user = rows.get(admin.id), rows.get(user_id)
        if actor is None or not (actor.is_active and actor.is_admin):
            raise NoLongerAdmin
        if user is None:
            raise NoSuchAccount
        return user

    async def _set(self, admin: Admin, user_id: UUID, action: str, **wanted: bool) -> None:
        takes_away = False in wanted.values()
        if takes_away and admin.id == user_id:
            raise NotOwnAccount
        async with self._desk.unit() as db:
            user = await self._locked(db, admin, user_id)
            if wanted.get("is_active") is True and user.erasure_requested_at is not None:
                raise BeingErased
            before: dict[str, JsonValue] = {name: getattr(user, name) for name in wanted}
            if before == wanted:
                return
            for name, value in wanted.items():
                setattr(user, name, value)
            now = self._desk.clock.now()
            user.updated_at = now
            if takes_away:
                await db.execute(
                    update(RefreshFamily)
                    .where(RefreshFamily.user_id == user_id, RefreshFamily.revoked_at.is_(None))
                    .values(revoked_at=now, revoked_reason=RevocationReason.LOGOUT.value)
                )
            details: dict[str, JsonValue] = {"before": before, "after": dict(wanted)}
            await AuditLog(db, self._desk.clock).record(
                admin.id, action, subject_type="user", subject_id=user_id, details=details
            )
