"""Model text becomes text that UTF-8, JSON and PostgreSQL accept, however it was cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.text import REPLACEMENT, TextCleaner


def clean(pieces: list[str]) -> str:
    cleaner = TextCleaner()
    return "".join([cleaner.feed(piece) for piece in pieces] + [cleaner.flush()])


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["plain ", "text"], "plain text"),
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["\ud83d\ude00"], "😀"),
        (["a\ud83d", "b"], f"a{REPLACEMENT}b"),
        (["a\ud83d"], f"a{REPLACEMENT}"),
        (["\ude00a"], f"{REPLACEMENT}a"),
        (["\ud83d", "\ud83d", "\ude00"], f"{REPLACEMENT}😀"),
        (["a\x00b"], f"a{REPLACEMENT}b"),
        (["é\x00"], f"é{REPLACEMENT}"),
    ],
)
def test_joins_what_was_cut_and_replaces_what_cannot_be_stored(pieces: list[str], expected: str) -> None:
    assert clean(pieces) == expected


def test_holds_back_only_the_open_half() -> None:
    cleaner = TextCleaner()
    assert cleaner.feed("abc\ud83d") == "abc"
    assert cleaner.feed("\ude00") == "😀"


any_text = st.text(st.characters(codec=None, categories=None), max_size=30)


@given(any_text, st.lists(st.integers(0, 60), max_size=6))
def test_the_cuts_make_no_difference(text: str, cuts: list[int]) -> None:
    # In the UTF-16 form, so that a cut may fall inside a character.
    units = text.encode("utf-16-le", "surrogatepass")
    bounds = [0, *sorted(min(2 * cut, len(units)) for cut in cuts), len(units)]
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in itertools.pairwise(bounds)]
    cleaned = clean(pieces)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert cleaned == clean([units.decode("utf-16-le", "surrogatepass")])
