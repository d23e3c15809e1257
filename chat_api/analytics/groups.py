"""Rows of figures, put together by day, model, provider, tool or person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import asdict
from datetime import date
from typing import Any, TypeVar

from chat_api.analytics.models import Subject
from chat_api.analytics.schemas import (
    MessageCounts,
    ModelFigures,
    PercentilesRead,
    ProviderFigures,
    RunCounts,
    TokenCounts,
    ToolCounts,
    ToolFigures,
    UserFigures,
)
from chat_api.analytics.tally import Sum, Tally, rate

K = TypeVar("K", bound=Hashable)


def tallied(rows: Iterable[Sum]) -> Tally:
    tally = Tally()
    for row in rows:
        tally.add(row)
    return tally


def run_figures(tally: Tally) -> dict[str, Any]:
    """The fields of `RunFigures`."""
    runs = tally.numbers[Subject.RUN]
    total = runs["completed"] + runs["failed"] + runs["cancelled"]
    return {
        "runs": RunCounts(total=total, completed=runs["completed"], failed=runs["failed"], cancelled=runs["cancelled"]),
        "error_rate": rate(runs["failed"], total),
        "tokens": TokenCounts(
            prompt_tokens=tally.prompt_tokens,
            completion_tokens=tally.completion_tokens,
            total_tokens=tally.total_tokens,
        ),
        "cost": float(tally.cost),
        "latency_ms": PercentilesRead(**asdict(tally.latency)),
        "time_to_first_token_ms": PercentilesRead(**asdict(tally.first_token)),
    }


def figures(tally: Tally) -> dict[str, Any]:
    """The fields of `Figures`."""
    return {
        **run_figures(tally),
        "sessions": tally.numbers[Subject.SESSION].total(),
        "messages": message_counts(tally),
        "tools": tool_counts(tally),
    }


def message_counts(tally: Tally) -> MessageCounts:
    roles = tally.numbers[Subject.MESSAGE]
    return MessageCounts(
        total=roles.total(),
        user=roles["user"],
        assistant=roles["assistant"],
        system=roles["system"],
        tool=roles["tool"],
    )


def tool_counts(tally: Tally) -> ToolCounts:
    calls = tally.numbers[Subject.TOOL]
    return ToolCounts(
        total=calls.total(),
        succeeded=calls["succeeded"],
        failed=calls["failed"],
        rejected=calls["rejected"],
        timed_out=calls["timed_out"],
    )


def by_day(rows: Iterable[Sum], days: Iterable[date]) -> Iterator[tuple[date, Tally]]:
    """Every one of the days, also those on which nothing happened."""
    found = _grouped(rows, lambda row: row.day)
    return ((day, found.get(day) or Tally()) for day in days)


def by_model(rows: Iterable[Sum]) -> list[ModelFigures]:
    found = _grouped(_of(rows, Subject.RUN), lambda row: (row.provider, row.name))
    return [
        ModelFigures(provider=provider or None, model=model or None, **run_figures(tally))
        for (provider, model), tally in _most_used(found)
    ]


def by_provider(rows: Iterable[Sum]) -> list[ProviderFigures]:
    found = _grouped(_of(rows, Subject.RUN), lambda row: row.provider)
    return [ProviderFigures(provider=provider or None, **run_figures(tally)) for provider, tally in _most_used(found)]


def by_tool(rows: Iterable[Sum]) -> list[ToolFigures]:
    found = _grouped(_of(rows, Subject.TOOL), lambda row: (row.provider, row.name))
    ordered = sorted(found.items(), key=lambda item: (-item[1].numbers[Subject.TOOL].total(), item[0]))
    return [_tool(source, name, tally) for (source, name), tally in ordered]


def by_user(rows: Iterable[Sum]) -> list[UserFigures]:
    names = {row.user_id: row.username for row in rows}
    found = _grouped(rows, lambda row: row.user_id)
    return [
        UserFigures(user_id=user_id, username=names[user_id], **figures(tally))
        for user_id, tally in _most_used(found)
        if user_id is not None
    ]


def _tool(source: str, name: str, tally: Tally) -> ToolFigures:
    calls = tool_counts(tally)
    return ToolFigures(
        tool_name=name,
        source=source,
        calls=calls,
        error_rate=rate(calls.failed + calls.timed_out, calls.total),
        duration_ms=PercentilesRead(**asdict(tally.tool_duration)),
    )


def _of(rows: Iterable[Sum], subject: Subject) -> Iterator[Sum]:
    return (row for row in rows if row.subject == subject)


def _grouped(rows: Iterable[Sum], key: Callable[[Sum], K]) -> dict[K, Tally]:
    found: defaultdict[K, Tally] = defaultdict(Tally)
    for row in rows:
        found[key(row)].add(row)
    return found


def _most_used(found: dict[K, Tally]) -> list[tuple[K, Tally]]:
    """By tokens, then by runs; the same order each time."""
    return sorted(
        found.items(),
        key=lambda item: (-item[1].total_tokens, -item[1].numbers[Subject.RUN].total(), str(item[0])),
    )
