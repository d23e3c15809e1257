"""Words of a query, and what is shown around one that was found."""

from __future__ import annotations

import pytest

from chat_api.search.words import MOST_WORDS, snippet, words_of


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("harbour fees", ["harbour", "fees"]),
        ('When, (exactly) does "it" close?', ["When", "exactly", "does", "it", "close"]),
        ("fees FEES Fees", ["fees"]),
        ("a-b don't x@example.org 3.14 C++", ["a-b", "don't", "x@example.org", "3.14", "C++"]),
        ("'", ["'"]),
        (":*", ["*"]),
        ("(((", ["((("]),
        ("100% & !", ["100%", "&", "!"]),
        (" \t\n", []),
        ("東京の港", ["東京の港"]),
    ],
)
def test_words_are_what_stands_between_spaces(query: str, expected: list[str]) -> None:
    assert [word.text for word in words_of(query)] == expected


def test_a_long_query_costs_no_more_than_some_words() -> None:
    assert len(words_of(" ".join(f"w{number}" for number in range(200)))) == MOST_WORDS


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("art", "(^|[^[:alnum:]])art"),
        ("a.b*", r"(^|[^[:alnum:]])a\.b\*"),
        ("%", None),
        ("(((", None),
        ("港", None),
        ("ärger", None),
    ],
)
def test_only_a_word_of_letters_has_to_begin_one(text: str, pattern: str | None) -> None:
    [word] = words_of(text)

    assert (word.text, word.pattern) == (text, pattern)


@pytest.mark.parametrize(
    ("excerpt", "begins_inside", "ends_inside", "expected"),
    [
        ("The whole text.", False, False, "The whole text."),
        (" one\n\n two\tthree ", False, False, "one two three"),
        ("rbour fees are five eur", True, True, "…fees are five…"),
        (" fees are five ", True, True, "…fees are five…"),
        ("aaaaaaaa", True, True, "…aaaaaaaa…"),
        ("", False, False, ""),
        ("", True, True, "……"),
    ],
)
def test_a_snippet_is_one_line_of_whole_words(
    excerpt: str, begins_inside: bool, ends_inside: bool, expected: str
) -> None:
    assert snippet(excerpt, begins_inside=begins_inside, ends_inside=ends_inside) == expected
