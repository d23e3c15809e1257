"""The collaborators of the analytics routes, and how a period is asked for."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import Depends, Query

from chat_api.analytics.repository import AnalyticsRepository
from chat_api.analytics.service import AnalyticsService, Period
from chat_api.auth.dependencies import TheClock
from chat_api.kit.dependencies import Statements


async def get_analytics(database: Statements, clock: TheClock) -> AnalyticsService:
    return AnalyticsService(AnalyticsRepository(database), clock)


TheAnalytics = Annotated[AnalyticsService, Depends(get_analytics)]


async def get_period(
    analytics: TheAnalytics,
    first: Annotated[
        date | None, Query(alias="from", description="The first day, in UTC. Without it, 30 days are shown.")
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", description="The last day, itself included. Without it, today.")
    ] = None,
) -> Period:
    return analytics.period(first, last)


ThePeriod = Annotated[Period, Depends(get_period)]
