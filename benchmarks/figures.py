"""Figures and the table they are printed in."""

from __future__ import annotations

import operator
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """On which side of its goal a figure should be."""

    HIGHER = "≥"
    LOWER = "≤"


@dataclass(frozen=True)
class Goal:
    value: float
    better: Better

    def met_by(self, value: float) -> bool:
        compare: Callable[[float, float], bool] = operator.ge if self.better is Better.HIGHER else operator.le
        return compare(value, self.value)


@dataclass(frozen=True)
class Samples:
    """One figure measured several times. Its value is the median; the spread shows what the machine was doing."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, unit: str) -> str:
        shown = f"{number(self.median)} {unit}".rstrip()
        if len(self.values) > 1:
            shown += f" ({number(min(self.values))}–{number(max(self.values))})"
        return shown


@dataclass(frozen=True)
class Figure:
    """A line of the table: ours, the limit measured beside it, and what is held against the goal."""

    name: str
    ours: str
    limit: str = ""
    judged: float | None = None
    judged_as: str = ""
    goal: Goal | None = None

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.judged is not None and not self.goal.met_by(self.judged)


def ratio_figure(name: str, ours: Samples, limit: Samples, unit: str, limit_name: str, goal: Goal) -> Figure:
    """Our figure divided by the limit's, pair by pair: what disturbs the machine disturbs both of a pair."""
    ratios = [mine / theirs for mine, theirs in zip(ours.values, limit.values, strict=True)]
    return Figure(
        name=name,
        ours=ours.text(unit),
        limit=f"{limit_name} {limit.text(unit)}",
        judged=statistics.median(ratios),
        judged_as="ratio",
        goal=goal,
    )


def number(value: float) -> str:
    """Three figures are all that such a measurement is good for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    print(f"\n{title}", flush=True)
    for figure in figures:
        parts = [f"  {figure.name:<34} {figure.ours}"]
        if figure.limit:
            parts.append(f"| {figure.limit}")
        if figure.judged is not None:
            parts.append(f"| {figure.judged_as} {number(figure.judged)}".replace("|  ", "| "))
        if figure.goal is not None:
            outcome = "MISSED" if figure.missed else "met"
            parts.append(f"| goal {figure.goal.better.value} {number(figure.goal.value)}: {outcome}")
        print(" ".join(parts), flush=True)


def machine() -> str:
    """One line about where the figures are from."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" load average at the start {os.getloadavg()[0]:.1f}"
    )
