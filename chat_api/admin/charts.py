"""Bars over days, as SVG: no script, no library, no other host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 122


@dataclass(frozen=True, slots=True)
class Bar:
    """In units of the drawing. `title` is what a pointer on it shows."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`total` and the labels are as people read them."""

    title: str
    total: str
    highest: str
    first: date
    last: date
    bars: Sequence[Bar]
    width: int = WIDTH
    height: int = HEIGHT


def bar_chart(
    title: str, days: Sequence[date], values: Sequence[float], *, unit: str = "", total: float | None = None
) -> Chart:
    """`days` are one after the other; `total` is the sum where it is not given."""
    highest = max(values, default=0)
    step = WIDTH / max(1, len(values))
    bars = []
    for index, (day, value) in enumerate(zip(days, values, strict=True)):
        height = 0 if highest <= 0 else max(1.0 if value > 0 else 0.0, HEIGHT * value / highest)
        bars.append(
            Bar(
                x=round(index * step, 2),
                y=round(HEIGHT - height, 2),
                width=round(max(1.0, step - 2), 2),
                height=round(height, 2),
                title=f"{day.isoformat()}: {written(value)}{unit}",
            )
        )
    whole = sum(values) if total is None else total
    return Chart(title, written(whole) + unit, written(highest) + unit, days[0], days[-1], bars)


def written(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.4f}" if abs(value) < 1 else f"{value:,.2f}"
