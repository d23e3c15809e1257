"""Routes of people for administrators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from chat_api.audit.dependencies import TheAuditLog
from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.errors import AdminRequired
from chat_api.auth.permissions import AdminActor
from chat_api.kit.dependencies import Db
from chat_api.plans.dependencies import ThePlans
from chat_api.users.errors import UserNotFound
from chat_api.users.plan_changes import PlanChanges
from chat_api.users.schemas import UserAdminPatch, UserRead

router = APIRouter(prefix="/admin/users", tags=["Administration"])


async def get_plan_changes(
    db: Db, settings: TheSettings, clock: TheClock, audit: TheAuditLog, plans: ThePlans
) -> PlanChanges:
    return PlanChanges(db, settings, clock, audit, plans)


@router.patch("/{user_id}", summary="Change somebody's account", responses=answers(AdminRequired, UserNotFound))
async def update_user(
    user_id: Annotated[UUID, Path(description="Id of the person.")],
    actor: AdminActor,
    body: UserAdminPatch,
    changes: Annotated[PlanChanges, Depends(get_plan_changes)],
) -> UserRead:
    """Give them another plan. It holds at once in this process, and within seconds in every other."""
    return await changes.change(actor.user_id, user_id, body.plan if "plan" in body.model_fields_set else None)
