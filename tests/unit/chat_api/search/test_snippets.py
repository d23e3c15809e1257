"""What is shown around a match."""

from __future__ import annotations

import pytest

from chat_api.search.snippets import CHARACTERS, Part, parts_of
from chat_api.search.statements import END_MARK, START_MARK


def marked(text: str) -> tuple[str, str]:
    """An excerpt and the same with marks, of a text with brackets around what matched."""
    return text.replace("[", "").replace("]", ""), text.replace("[", START_MARK).replace("]", END_MARK)


def shown(parts: list[Part]) -> str:
    return "".join(f"[{part.text}]" if part.matched else part.text for part in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The [harbour] closes.", "The [harbour] closes."),
        ("[Harbour]\n\n fees\tand [port] ", "[Harbour] fees and [port]"),
        ("<b>[harbour]</b> & more", "<b>[harbour]</b> & more"),
        (" [harbour] ", "[harbour]"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_a_short_text_is_shown_whole_on_one_line(text: str, expected: str) -> None:
    assert shown(parts_of(*marked(text))) == expected


def test_of_a_long_text_whole_words_around_the_first_match_are_shown() -> None:
    text = shown(parts_of(*marked("word " * 300 + "the [harbour] closes " + "word " * 300)))

    assert text.startswith("…word ")
    assert "the [harbour] closes" in text
    assert text.endswith("word…")
    assert len(text) <= CHARACTERS + 4


def test_a_text_without_spaces_is_cut_anywhere() -> None:
    parts = parts_of("é" * 1_000, "é" * 1_000)

    assert shown(parts) == "é" * CHARACTERS + "…"


def test_a_part_of_more_says_so() -> None:
    assert shown(parts_of(*marked("a [b] c"), begins_inside=True, ends_inside=True)) == "…a [b] c…"


def test_writing_without_spaces_is_looked_for_as_it_stands() -> None:
    text = "東京の港は十時"

    assert shown(parts_of(text, text, also=["港"])) == "東京の[港]は十時"


def test_marks_that_do_not_fit_the_text_mark_nothing() -> None:
    assert shown(parts_of("harbour", f"{START_MARK}harbou{END_MARK}")) == "harbour"
