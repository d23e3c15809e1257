"""Sentences, and the words by which two of them are compared."""

from __future__ import annotations

import pytest

from agent_service.domain.wording import sentences_of, spans_of, terms_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Lund pays 4.50, e.g. on Sundays. He goes.", ["Dr. Lund pays 4.50, e.g. on Sundays.", "He goes."]),
        ("- one\n- two\n\n  three  ", ["- one", "- two", "three"]),
        ("港口关门。博物馆开门。", ["港口关门。", "博物馆开门。"]),
        ("  ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in spans_of(text)] == sentences
    assert all(text[item.start : item.end] == item.text for item in sentences_of(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("closes", "closing"),
        ("stopped", "stops"),
        ("cities", "city"),
        ("ten", "10"),
        ("1,998", "1998"),
        ("Ｈａｒｂｏｕｒ", "harbour's"),
        ("falls", "fall"),
    ],
)
def test_forms_of_a_word_are_one(one: str, other: str) -> None:
    assert terms_of(one) == terms_of(other) != frozenset()


def test_function_words_mean_nothing() -> None:
    assert terms_of("Where is the, and what does it do?") == frozenset()
