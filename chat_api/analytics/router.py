"""`/analytics` and `/statistics`: what was said, used and spent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from chat_api.analytics.dependencies import TheAnalytics, ThePeriod
from chat_api.analytics.errors import InvalidPeriod
from chat_api.analytics.schemas import (
    AnalyticsRead,
    GlobalAnalyticsRead,
    GlobalGroupBy,
    GlobalStatistics,
    GroupBy,
    SessionStatistics,
)
from chat_api.auth.answers import answers
from chat_api.auth.errors import AdminRequired
from chat_api.auth.permissions import AdminActor, ChatReader
from chat_api.sessions.dependencies import SessionId
from chat_api.sessions.errors import SessionNotFound

router = APIRouter(tags=["Analytics"])


@router.get("/analytics/me", summary="Show what I used", responses=answers(InvalidPeriod))
async def read_my_analytics(
    actor: ChatReader,
    analytics: TheAnalytics,
    period: ThePeriod,
    group_by: Annotated[GroupBy, Query(description="What the figures are told apart by.")] = GroupBy.DAY,
) -> AnalyticsRead:
    """What you own, wrote and asked for, by day, model, provider or tool, at most 366 days.

    Messages are those that you wrote; the answers to them are runs. The figures are what is there now: what was
    deleted counts no more.
    """
    return await analytics.of_person(actor.user_id, period, group_by)


@router.get("/analytics/global", summary="Show what everybody used", responses=answers(AdminRequired, InvalidPeriod))
async def read_global_analytics(
    _: AdminActor,
    analytics: TheAnalytics,
    period: ThePeriod,
    group_by: Annotated[GlobalGroupBy, Query(description="What the figures are told apart by.")] = GlobalGroupBy.DAY,
    limit: Annotated[int, Query(ge=1, le=100, description="People shown at most, by `user`.")] = 50,
) -> GlobalAnalyticsRead:
    """The same for everybody together, with how many people were active. Needs an administrator.

    By `user`, those are shown who used the most tokens.
    """
    return await analytics.of_everybody(period, group_by, limit)


@router.get("/statistics/global", summary="Count all there is", responses=answers(AdminRequired))
async def read_global_statistics(_: AdminActor, analytics: TheAnalytics) -> GlobalStatistics:
    """People, sessions, messages, answers and tools as they are now, and who was active. Needs an administrator."""
    return await analytics.statistics()


@router.get(
    "/sessions/{session_id}/statistics",
    response_class=Response,
    responses={200: {"model": SessionStatistics}, **answers(SessionNotFound)},
    summary="Count what is in a session",
)
async def read_session_statistics(session_id: SessionId, actor: ChatReader, analytics: TheAnalytics) -> Response:
    """Messages by role, answers, tokens, cost, times and tools, counted from the session itself."""
    return Response(await analytics.of_session(session_id, actor.user_id), media_type="application/json")
