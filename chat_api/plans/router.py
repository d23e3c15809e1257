"""`/plans` and `/users/me/usage`."""

from __future__ import annotations

from fastapi import APIRouter

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader
from chat_api.kit.pagination import Page
from chat_api.plans.dependencies import Plans
from chat_api.plans.schemas import PlanRead, UsageRead

router = APIRouter(tags=["Accounts"])


@router.get("/plans", summary="List the plans", responses=answers())
async def list_plans(_: ChatReader, plans: Plans) -> Page[PlanRead]:
    """What people may use, by plan. Administrators give plans. The list is one page."""
    return Page(items=plans.all(), next_cursor=None)


@router.get("/users/me/usage", summary="Read what I use of my plan", responses=answers())
async def read_my_usage(actor: ChatReader, plans: Plans) -> UsageRead:
    """Messages and tokens of today, documents and storage of now, each with its limit and what remains.

    What is deleted gives no messages or tokens back. Replies that were broken off count with what they used; where
    their provider did not say, with an estimate.
    """
    return await plans.usage(actor.user_id)
