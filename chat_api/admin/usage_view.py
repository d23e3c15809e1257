"""The first page: what was used, by day, and by whom and what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette_admin import CustomView
from starlette_admin.routing import route

from chat_api.admin.charts import Chart, bar_chart, written
from chat_api.admin.desk import Desk
from chat_api.analytics.schemas import (
    GlobalAnalyticsRead,
    GlobalDayFigures,
    GlobalGroupBy,
    ModelFigures,
    ToolFigures,
    UserFigures,
)
from chat_api.analytics.service import AnalyticsService

PERIODS = (7, 30, 90)
"""In days, up to today."""

_DEFAULT_PERIOD = 30
_MOST_ROWS = 10


@dataclass(frozen=True, slots=True)
class FigureTable:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class UsageView(CustomView):
    menu_label = "Usage"
    icon = "fa fa-chart-column"
    path = "/"
    route_name = "index"

    def __init__(self, desk: Desk, analytics: AnalyticsService) -> None:
        super().__init__()
        self._desk = desk
        self._analytics = analytics

    @route("")
    async def index(self, request: Request) -> Response:
        wanted = request.query_params.get("days")
        chosen = next((days for days in PERIODS if str(days) == wanted), _DEFAULT_PERIOD)
        today = self._desk.clock.now().date()
        period = self._analytics.period(today - timedelta(days=chosen - 1), today)
        found = {}
        async with self._desk.asking():
            for group_by in (GlobalGroupBy.DAY, GlobalGroupBy.MODEL, GlobalGroupBy.TOOL, GlobalGroupBy.USER):
                found[group_by] = await self._analytics.of_everybody(period, group_by, _MOST_ROWS)
        assert self.templates is not None
        context = {
            "title": "Usage",
            "charts": _charts(found[GlobalGroupBy.DAY]),
            "tables": [
                _models(found[GlobalGroupBy.MODEL]),
                _tools(found[GlobalGroupBy.TOOL]),
                _people(found[GlobalGroupBy.USER]),
            ],
            "periods": PERIODS,
            "chosen": chosen,
        }
        return self.templates.TemplateResponse(request, "usage.html", context)


def _charts(read: GlobalAnalyticsRead) -> list[Chart]:
    days = [group for group in read.groups if isinstance(group, GlobalDayFigures)]
    dates = [one.day for one in days]
    totals = read.totals
    return [
        bar_chart("Messages", dates, [one.messages.total for one in days]),
        # A person who was there on two days is one person.
        bar_chart("Active people", dates, [one.active_users for one in days], total=totals.active_users),
        bar_chart("Tokens", dates, [one.tokens.total_tokens for one in days]),
        bar_chart("Cost", dates, [one.cost for one in days], total=totals.cost),
        bar_chart("Failed replies", dates, [one.runs.failed for one in days]),
        bar_chart(
            "Latency, 95th percentile",
            dates,
            [round(one.latency_ms.p95 or 0) for one in days],
            unit=" ms",
            total=round(totals.latency_ms.p95 or 0),
        ),
    ]


def _models(read: GlobalAnalyticsRead) -> FigureTable:
    rows = [
        (one.model or "–", one.provider or "–", *_numbers(one.runs.total, one.tokens.total_tokens, one.cost))
        for one in read.groups[:_MOST_ROWS]
        if isinstance(one, ModelFigures)
    ]
    return FigureTable("Models", ("Model", "Provider", "Replies", "Tokens", "Cost"), rows)


def _tools(read: GlobalAnalyticsRead) -> FigureTable:
    rows = [
        (one.tool_name, one.source, *_numbers(one.calls.total, one.calls.failed + one.calls.timed_out))
        for one in read.groups[:_MOST_ROWS]
        if isinstance(one, ToolFigures)
    ]
    return FigureTable("Tools", ("Tool", "Source", "Calls", "Failed"), rows)


def _people(read: GlobalAnalyticsRead) -> FigureTable:
    rows = [
        (one.username or "–", *_numbers(one.messages.total, one.tokens.total_tokens, one.cost))
        for one in read.groups
        if isinstance(one, UserFigures)
    ]
    return FigureTable("People who used the most tokens", ("Person", "Messages", "Tokens", "Cost"), rows)


def _numbers(*values: float) -> list[str]:
    return [written(value) for value in values]
