"""The parts of BM25 that are not SQL."""

from __future__ import annotations

import math

from agent_service.domain.bm25 import DRIFT, has_drifted, inverse_frequency


def test_rare_words_are_worth_more_and_none_less_than_nothing() -> None:
    worth = [inverse_frequency(1000, holding) for holding in (0, 1, 10, 500, 1000)]
    assert worth == sorted(worth, reverse=True)
    assert worth[-1] > 0
    assert math.isclose(worth[1], math.log(1 + 999.5 / 1.5))


def test_counts_that_are_read_one_after_the_other_may_disagree() -> None:
    assert inverse_frequency(10, 12) == 0


def test_weights_are_wrong_beyond_the_drift() -> None:
    assert not has_drifted(100 * (1 + DRIFT), 100)
    assert has_drifted(101 * (1 + DRIFT), 100)
    assert has_drifted(99 * (1 - DRIFT), 100)
