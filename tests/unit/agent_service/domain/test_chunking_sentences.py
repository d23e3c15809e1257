"""Sentences stay whole where people would keep them whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.sentences import sentences


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith et al. measured 3.5 mg of it.",
        "See Fig. 2 and e.g. Table 3 of J. R. R. Tolkien.",
        "The U.S. Government paid 1.000,50 euros.",
        "Version 2.1.3 is at https://example.org/a.html?b=c.d now.",
        "Das gilt z.B. für Häuser bzw. Hütten.",
        "He waited... and then he went on.",
        "It costs approx. 20 euros.",
    ],
)
def test_a_period_inside_a_sentence_does_not_end_it(sentence: str) -> None:
    assert cut(f"This comes before it. {sentence} This comes after it.") == [
        "This comes before it.", sentence, "This comes after it.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Is the harbour open? It certainly is! Come and see.",
            ["Is the harbour open?", "It certainly is!", "Come and see."],
        ),
        ('He said: "It is closed." Nobody believed him.', ['He said: "It is closed."', "Nobody believed him."]),
        ("It was built in 2010. The end came soon.", ["It was built in 2010.", "The end came soon."]),
        ("A title without a period\n\nThen a paragraph.", ["A title without a period", "Then a paragraph."]),
        (
            "A line that is wrapped\nby its author. And more of it.",
            ["A line that is wrapped\nby its author.", "And more of it."],
        ),
        ("The first line ends.\nsecond line begins.", ["The first line ends.", "second line begins."]),
        (
            "To buy today:\n- bread and butter\n- a litre of milk",
            ["To buy today:", "- bread and butter", "- a litre of milk"],
        ),
        ("1. Open the door.\n2. Close the door.", ["1. Open the door.", "2. Close the door."]),
        ("港は夜の十時に閉まります。朝は六時に開きます。", ["港は夜の十時に閉まります。", "朝は六時に開きます。"]),
        ("बंदरगाह दस बजे बंद होता है। सुबह छह बजे खुलता है।", ["बंदरगाह दस बजे बंद होता है।", "सुबह छह बजे खुलता है।"]),
        ("  \n\n ", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_scraps_stay_with_what_follows() -> None:
    assert cut("No. Yes. Come in and sit down.") == ["No. Yes. Come in and sit down."]


@given(st.text(alphabet=st.sampled_from("aB1 .!?\n\t-\"')。，字#*|é\u00a0"), max_size=300))
def test_nothing_but_white_space_is_left_out(text: str) -> None:
    spans = sentences(text)
    end = 0
    for start, stop in spans:
        assert not text[end:start].strip()
        assert text[start:stop] == text[start:stop].strip()
        assert start < stop
        end = stop
    assert not text[end:].strip()


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        ".",
        "\n",
        " ",
        ". ",
        "a. ",
        "A.",
        '."',
        "\n ",
        "!)",
        "字",
        "字。",
        ",",
        "1. ",
        "\n- ",
        "(",
        ".\n",
        "1.",
        "\n1",
    ],
)
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    text = unit * (400_000 // len(unit)) + "x"
    started = time.process_time()
    sentences(text)
    assert time.process_time() - started < 3  # a quadratic step would take minutes
