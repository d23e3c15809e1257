"""Figures of a person, of everybody, and of one session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import assert_never
from uuid import UUID

from chat_api.analytics.errors import MAX_DAYS, InvalidPeriod
from chat_api.analytics.groups import (
    by_day,
    by_model,
    by_provider,
    by_tool,
    by_user,
    figures,
    message_counts,
    run_figures,
    tallied,
    tool_counts,
)
from chat_api.analytics.models import Subject
from chat_api.analytics.repository import AnalyticsRepository
from chat_api.analytics.schemas import (
    ActiveUsers,
    AnalyticsRead,
    DayFigures,
    Figures,
    GlobalAnalyticsRead,
    GlobalDayFigures,
    GlobalFigures,
    GlobalGroupBy,
    GlobalStatistics,
    GroupBy,
    ModelFigures,
    OpenRunCounts,
    ProviderFigures,
    SessionCounts,
    ToolFigures,
    UserFigures,
)
from chat_api.kit.clock import Clock
from chat_api.runs.models import RunStatus
from chat_api.sessions.errors import SessionNotFound

_DEFAULT_DAYS = 30
_ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in UTC, both included."""

    first: date
    last: date

    def days(self) -> Iterator[date]:
        return (self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))


class AnalyticsService:
    def __init__(self, repository: AnalyticsRepository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    def period(self, first: date | None, last: date | None) -> Period:
        """The days that are meant: where nothing is said, 30 up to today. Raises `InvalidPeriod`."""
        last = last or self._clock.now().date()
        if first is None:
            first = date.fromordinal(max(1, last.toordinal() - _DEFAULT_DAYS + 1))
        if not 0 <= (last - first).days < MAX_DAYS:
            raise InvalidPeriod
        return Period(first, last)

    async def of_person(self, user_id: UUID, period: Period, group_by: GroupBy) -> AnalyticsRead:
        rows = await self._repository.of_person(user_id, period.first, period.last, by_day=group_by is GroupBy.DAY)
        groups: list[DayFigures] | list[ModelFigures] | list[ProviderFigures] | list[ToolFigures]
        match group_by:
            case GroupBy.DAY:
                groups = [DayFigures(day=day, **figures(tally)) for day, tally in by_day(rows, period.days())]
            case GroupBy.MODEL:
                groups = by_model(rows)
            case GroupBy.PROVIDER:
                groups = by_provider(rows)
            case GroupBy.TOOL:
                groups = by_tool(rows)
            case _:
                assert_never(group_by)
        totals = Figures(**figures(tallied(rows)))
        return AnalyticsRead(**{"from": period.first}, to=period.last, group_by=group_by, totals=totals, groups=groups)

    async def of_everybody(self, period: Period, group_by: GlobalGroupBy, limit: int) -> GlobalAnalyticsRead:
        """`limit` is how many people are told apart, those first who used the most tokens."""
        rows = await self._repository.of_everybody(period.first, period.last, by_day=group_by is GlobalGroupBy.DAY)
        active = {row.day: row.number for row in rows if row.subject == _ACTIVE}
        groups: (
            list[GlobalDayFigures] | list[ModelFigures] | list[ProviderFigures] | list[ToolFigures] | list[UserFigures]
        )
        match group_by:
            case GlobalGroupBy.DAY:
                groups = [
                    GlobalDayFigures(day=day, active_users=active.get(day, 0), **figures(tally))
                    for day, tally in by_day(rows, period.days())
                ]
            case GlobalGroupBy.MODEL:
                groups = by_model(rows)
            case GlobalGroupBy.PROVIDER:
                groups = by_provider(rows)
            case GlobalGroupBy.TOOL:
                groups = by_tool(rows)
            case GlobalGroupBy.USER:
                groups = by_user(await self._repository.of_people(period.first, period.last, limit))
            case _:
                assert_never(group_by)
        totals = GlobalFigures(active_users=active.get(None, 0), **figures(tallied(rows)))
        return GlobalAnalyticsRead(
            **{"from": period.first}, to=period.last, group_by=group_by, totals=totals, groups=groups
        )

    async def statistics(self) -> GlobalStatistics:
        rows = await self._repository.standing(self._clock.now().date())
        tally = tallied(rows)
        there = {(row.subject, row.name): row.number for row in rows}
        sessions, runs = tally.numbers[Subject.SESSION], tally.numbers[Subject.RUN]
        ended = run_figures(tally)
        return GlobalStatistics(
            users=there["user", ""],
            active_users=ActiveUsers(
                day=there.get((_ACTIVE, "day"), 0),
                week=there.get((_ACTIVE, "week"), 0),
                month=there.get((_ACTIVE, "month"), 0),
            ),
            sessions=SessionCounts(total=sessions.total(), active=sessions["active"], archived=sessions["archived"]),
            messages=message_counts(tally),
            runs=OpenRunCounts(total=runs.total(), **{status.value: runs[status.value] for status in RunStatus}),
            error_rate=ended["error_rate"],
            tokens=ended["tokens"],
            cost=ended["cost"],
            latency_ms=ended["latency_ms"],
            time_to_first_token_ms=ended["time_to_first_token_ms"],
            tools=tool_counts(tally),
            bots=there["bot", ""],
            documents=there["document", ""],
        )

    async def of_session(self, session_id: UUID, user_id: UUID) -> bytes:
        """As JSON. Raises `SessionNotFound`."""
        document = await self._repository.of_session(session_id, user_id)
        if document is None:
            raise SessionNotFound
        return document
