from __future__ import annotations

import os
import time

import pytest

from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures, ratio_figure
from benchmarks.load import percentile
from benchmarks.processes import children, cpu_seconds, memory_mib


def test_ratio_is_the_median_of_the_pairs() -> None:
    ours, limit = Samples([100, 300, 50]), Samples([200, 400, 500])
    figure = ratio_figure("append", ours, limit, "messages/s", "pgbench", Goal(0.5, Better.HIGHER))
    assert figure.judged == 0.5
    assert not figure.missed
    assert figure.ours == "100 messages/s (50.0–300)"
    assert figure.limit == "pgbench 400 messages/s (200–500)"


@pytest.mark.parametrize(
    ("value", "better", "missed"),
    [(0.49, Better.HIGHER, True), (0.5, Better.HIGHER, False), (0.51, Better.LOWER, True), (0.5, Better.LOWER, False)],
)
def test_goal(value: float, better: Better, missed: bool) -> None:
    assert Figure("x", "1", judged=value, goal=Goal(0.5, better)).missed is missed


def test_figure_without_goal_cannot_miss_it() -> None:
    assert not Figure("x", "1", judged=9).missed


def test_table_says_the_ratio_and_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures("A title", [Figure("x", "7 ms", "direct 6 ms", 1.17, "ratio", Goal(1.05, Better.LOWER))])
    assert "| direct 6 ms | ratio 1.17 | goal ≤ 1.05: MISSED" in capsys.readouterr().out


def test_numbers_have_three_figures() -> None:
    assert [number(value) for value in (1234.5, 99.94, 9.994, 0.296)] == ["1,234", "99.9", "9.99", "0.30"]


def test_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (51, 100, 7)


def test_kernel_figures_of_this_process() -> None:
    before = cpu_seconds(os.getpid())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert 0.05 < cpu_seconds(os.getpid()) - before < 5
    now, most = memory_mib(os.getpid())
    assert 10 < now <= most
    assert os.getpid() in children(os.getppid())
