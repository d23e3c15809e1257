"""Bars over days: as high as their values, on one line, each with its words."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from chat_api.admin.charts import HEIGHT, WIDTH, bar_chart, written

DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(4)]


def test_bars_are_in_proportion_and_stand_on_one_line() -> None:
    chart = bar_chart("Messages", DAYS, [0, 5, 10, 0.001])

    assert [bar.height for bar in chart.bars] == [0, 61, 122, 1]
    assert {bar.y + bar.height for bar in chart.bars} == {HEIGHT}
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.y + bar.height <= HEIGHT for bar in chart.bars)
    assert chart.bars[1].title == "2026-01-02: 5"
    assert (chart.first, chart.last) == (DAYS[0], DAYS[-1])


def test_days_on_which_nothing_happened_have_no_bars() -> None:
    chart = bar_chart("Cost", DAYS, [0.0] * 4)

    assert {bar.height for bar in chart.bars} == {0}
    assert (chart.total, chart.highest) == ("0", "0")


def test_the_total_is_the_sum_but_where_it_is_given() -> None:
    assert bar_chart("Tokens", DAYS, [1, 2, 3, 4]).total == "10"
    assert bar_chart("People", DAYS, [1, 1, 1, 1], total=1).total == "1"
    assert bar_chart("Latency", DAYS, [1, 1, 1, 1], unit=" ms", total=1234.5).total == "1,234.50 ms"


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (1_234_567, "1,234,567"), (0.00042, "0.0004"), (12.345, "12.35"), (3.0, "3")]
)
def test_numbers_are_written_as_people_read_them(value: float, words: str) -> None:
    assert written(value) == words
