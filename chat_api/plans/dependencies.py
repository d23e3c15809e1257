"""Plans as parameter types."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheSettings
from chat_api.kit.dependencies import Statements
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.service import PlanService


async def get_plans_of_people(request: Request) -> PlansOfPeople:
    plans: PlansOfPeople = request.app.state.plans
    return plans


ThePlans = Annotated[PlansOfPeople, Depends(get_plans_of_people)]


async def get_plan_service(database: Statements, settings: TheSettings, plans: ThePlans) -> PlanService:
    return PlanService(database, settings, plans)


Plans = Annotated[PlanService, Depends(get_plan_service)]
