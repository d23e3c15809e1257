"""Sums of figures: what the rows of a day, a model, a tool or a person come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from chat_api.analytics.histogram import Histogram, Percentiles
from chat_api.analytics.models import Subject


@dataclass(frozen=True, slots=True)
class Sum:
    """One row of the statements: what is known of everything that has this subject, name and outcome in common."""

    subject: str
    provider: str
    name: str
    outcome: str
    number: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: Decimal
    durations: Mapping[str, int]
    first_tokens: Mapping[str, int]
    day: date | None = None
    user_id: UUID | None = None
    username: str | None = None


class Tally:
    def __init__(self) -> None:
        self.numbers: dict[str, Counter[str]] = {subject: Counter() for subject in Subject}
        """By subject, how many of each: sessions by status, messages by role, runs and tools by outcome."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.total_tokens = 0
        self.cost = Decimal(0)
        self._latency = Histogram()
        self._first_token = Histogram()
        self._tool_duration = Histogram()

    def add(self, row: Sum) -> None:
        if row.subject not in self.numbers:
            return  # people and things that are there: of no day
        what = row.outcome if row.subject in (Subject.RUN, Subject.TOOL) else row.name
        self.numbers[row.subject][what] += row.number
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.total_tokens += row.total_tokens
        self.cost += row.cost
        if row.subject == Subject.TOOL:
            self._tool_duration.add(row.durations)
        else:
            self._latency.add(row.durations)
            self._first_token.add(row.first_tokens)

    @property
    def latency(self) -> Percentiles:
        return self._latency.percentiles()

    @property
    def first_token(self) -> Percentiles:
        return self._first_token.percentiles()

    @property
    def tool_duration(self) -> Percentiles:
        return self._tool_duration.percentiles()


def rate(part: int, whole: int) -> float | None:
    """To four digits; None of nothing."""
    return round(part / whole, 4) if whole else None
