"""Which passages of a large collection are compared at all: those that a few of the query's terms lead to."""

from __future__ import annotations

from agent_service.adapters.pg_search import Term, promising

MOST, LEAST = 2_500, 200


def term(name: int, *counts: int) -> Term:
    """`counts` are passages that have it, that have it twice, and so on; its keys are 100 * `name` and following."""
    return Term(f"word{name}", 100 * name, counts[0], 1.0, [(100 * name + n, count) for n, count in enumerate(counts)])


def test_rare_words_lead_to_all_that_have_them() -> None:
    terms = [term(1, 30, 2, 0), term(2, 900, 50, 1), term(3, 60_000, 9_000, 400)]
    assert promising(terms, most=MOST, least=LEAST) == [100, 200, 302]


def test_of_a_common_word_those_are_taken_that_have_it_often() -> None:
    assert promising([term(1, 50_000, 8_000, 1_900, 40)], most=MOST, least=LEAST) == [102]


def test_a_handful_that_has_it_often_is_not_taken_for_all() -> None:
    """Five passages stand out, and fifty thousand have the word: a search for it wants more than five."""
    assert promising([term(1, 50_000, 40_000, 3_500, 5)], most=MOST, least=LEAST) == [103, 102]


def test_the_shortest_of_the_long_lists_is_taken() -> None:
    terms = [term(1, 10, 0, 0), term(2, 40_000, 9_000, 3), term(3, 60_000, 4_000, 0)]
    assert promising(terms, most=MOST, least=LEAST) == [100, 202, 301]


def test_words_that_are_everywhere_and_nowhere_often_lead_somewhere() -> None:
    assert promising([term(1, 40_000, 0), term(2, 60_000, 0)], most=MOST, least=LEAST) == [100]


def test_words_that_all_in_all_few_have_lead_to_those() -> None:
    assert promising([term(1, 3, 1), term(2, 90, 0)], most=MOST, least=LEAST) == [100, 200]


def test_no_words_lead_nowhere() -> None:
    assert promising([], most=MOST, least=LEAST) == []
