"""Filters of the lists, as conditions on columns. Only what an index or a short walk can answer is offered."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_
from starlette_admin.fields import BaseField
from starlette_admin.filters import (
    BaseFilter,
    FilterApplyContext,
    FilterDataType,
    FilterGroup,
    FilterRule,
    FilterValidationError,
)
from starlette_admin.filters.boolean import IsFalseFilter, IsTrueFilter
from starlette_admin.filters.enum import InFilter
from starlette_admin.filters.string import ContainsFilter

from chat_api.admin.listing import Condition, as_id


class OneOf(InFilter):
    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query.in_(ctx.value)
        return condition


class Contains(ContainsFilter):
    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query.icontains(ctx.value, autoescape=True)
        return condition


class Yes(IsTrueFilter):
    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query.is_(True)
        return condition


class No(IsFalseFilter):
    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query.is_(False)
        return condition


class Open(Yes):
    name = "open"
    label = "Is open"


class Closed(No):
    name = "closed"
    label = "Is closed"


class HasId(BaseFilter):
    name = "id"
    label = "Has the id"
    data_type = FilterDataType.STRING

    def parse_value(self, raw: str) -> UUID:
        found = as_id(str(raw))
        if found is None:
            raise FilterValidationError("not an id")
        return found

    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query == ctx.value
        return condition


class _Day(BaseFilter):
    data_type = FilterDataType.DATE

    def parse_value(self, raw: str) -> datetime:
        try:
            return datetime.combine(date.fromisoformat(str(raw)), time(), UTC)
        except ValueError:
            raise FilterValidationError("not a day as 2026-01-31") from None


class Since(_Day):
    name = "since"
    label = "On or after"

    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query >= ctx.value
        return condition


class Until(_Day):
    name = "until"
    label = "On or before"

    def parse_value(self, raw: str) -> datetime:
        try:
            return super().parse_value(raw) + timedelta(days=1)
        except OverflowError:
            raise FilterValidationError("there is no day after it") from None

    def apply(self, ctx: FilterApplyContext) -> Condition:
        condition: Condition = ctx.query < ctx.value
        return condition


def condition_of(group: FilterGroup, fields: dict[str, BaseField], columns: dict[str, Any]) -> Condition | None:
    """What a list's filter means for its columns; None for an empty one. The library checked names and values."""
    parts = []
    for rule in group.rules:
        part = condition_of(rule, fields, columns) if isinstance(rule, FilterGroup) else _of(rule, fields, columns)
        if part is not None:
            parts.append(part)
    if not parts:
        return None
    return or_(*parts) if group.logic == "or" else and_(*parts)


def _of(rule: FilterRule, fields: dict[str, BaseField], columns: dict[str, Any]) -> Condition:
    [kind] = [kind for kind in fields[rule.field].filters or () if kind.name == rule.filter]
    condition: Condition = kind().apply(FilterApplyContext(columns[rule.field], rule.field, rule.value, rule.value2))
    return condition
