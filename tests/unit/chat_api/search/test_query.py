"""What a query asks for."""

from __future__ import annotations

import pytest

from chat_api.search.query import MOST_TERMS, Term, terms_of, word_terms


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("harbour fees", [Term("harbour"), Term("fees")]),
        ('"harbour fees" open', [Term("harbour fees"), Term("open")]),
        ('"harbour fees', [Term("harbour fees")]),
        ("harb*", [Term("harb", is_prefix=True)]),
        ("h* harb**", [Term("h"), Term("harb", is_prefix=True)]),
        ('"harb*"', [Term("harb")]),
        ("harbour -fees", [Term("harbour"), Term("fees", is_excluded=True)]),
        ('harbour -"old port"', [Term("harbour"), Term("old port", is_excluded=True)]),
        ("fees fees", [Term("fees")]),
        ("don't \\x", [Term("don t"), Term("x")]),
        ("-fees", []),
        ('\' :* ((( & | ! <-> \\ % " ""', []),
        ("東京の港", [Term("東京の港")]),
        (" \t\n", []),
        ("", []),
    ],
)
def test_words_phrases_beginnings_and_what_is_not_wanted(query: str, expected: list[Term]) -> None:
    assert terms_of(query) == expected


def test_a_long_query_costs_no_more_than_some_words() -> None:
    query = " ".join(f"w{number}" for number in range(200))

    assert len(terms_of(query)) == len(word_terms(query)) == MOST_TERMS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('When, (exactly) does "it" close?', ["When", "exactly", "does", "it", "close"]),
        ("fees FEES -Fees a b", ["fees", "-Fees", "a", "b"]),
        ("' (((", []),
    ],
)
def test_a_sentence_is_its_words(text: str, expected: list[str]) -> None:
    assert [term.text for term in word_terms(text)] == expected
    assert all(term.is_prefix is (len(term.text) > 1) and not term.is_excluded for term in word_terms(text))
