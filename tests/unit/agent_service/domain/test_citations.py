"""Which passages an answer stands on. Better none than a wrong one."""

from __future__ import annotations

import time

import pytest

from agent_service.domain.citations import MAX_SNIPPET, cite
from agent_service.domain.turn import Quotation
from tests.factories.found import passage

PASSAGES = (
    passage(
        "The harbour of Lindmouth closes at ten in the evening. It opens at six in the morning. No dogs on the pier."
    ),
    passage(
        "The museum closes at five in the afternoon. Entry costs 12 euros for adults and 6 euros for children.",
        name="museum.md",
    ),
    passage(
        "The ferry to Skarholm runs every forty minutes. It does not run on Sundays, and a ticket costs 4 euros. "
        "Captain Ines Varga has steered it since 1998.",
        name="ferry.pdf",
        page=3,
    ),
    passage("Wooden boats need paint each spring. Salt water eats the old paint within a year.", name="boats.md"),
)
QUOTATIONS = tuple(Quotation(number, item, 0, len(item.text)) for number, item in enumerate(PASSAGES, 1))


def numbers(question: str, answer: str) -> list[int]:
    return [citation.index for citation in cite(answer, question, QUOTATIONS)]


@pytest.mark.parametrize(
    ("question", "answer", "cited"),
    [
        pytest.param("When does the harbour close?", "The harbour closes at ten in the evening [1].", [1], id="named"),
        pytest.param("When does the harbour close?", "It closes at ten in the evening.", [1], id="not named"),
        pytest.param("When does the harbour close?", "It closes at 10 in the evening.", [1], id="a number in digits"),
        pytest.param("When does the harbour close?", "At ten.", [1], id="in two words"),
        pytest.param("Who steers the ferry?", "Captain Ines Varga.", [3], id="a name"),
        pytest.param("Who steers the ferry?", "Ines Varga has steered it since 1998 [3]", [3], id="no full stop"),
        pytest.param("And the museum?", "Adults pay 12 euros and children 6 euros.", [2], id="reworded"),
        pytest.param("Does it run on Sundays?", "No, the ferry does not run on Sundays.", [3], id="a true no"),
        pytest.param(
            "What of both?",
            "The harbour opens at six in the morning. [1] The ferry to Skarholm runs every 40 minutes. [3]",
            [1, 3],
            id="marks after the full stop",
        ),
        pytest.param(
            "What of both?",
            "1. The harbour opens at six in the morning\n2. The ferry to Skarholm runs every forty minutes",
            [1, 3],
            id="a list",
        ),
        pytest.param(
            "What of both?",
            "The harbour closes at ten in the evening and the museum closes at five in the afternoon [1, 2].",
            [1, 2],
            id="two in one sentence",
        ),
    ],
)
def test_cites_what_the_answer_stands_on(question: str, answer: str, cited: list[int]) -> None:
    assert numbers(question, answer) == cited


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        pytest.param("When does the harbour close?", "The harbour closes at eleven in the evening [1].", id="number"),
        pytest.param("Who steers the ferry?", "The ferry is steered by Tom Baker.", id="another name"),
        pytest.param("What is the weather?", "It is sunny and warm today [1].", id="named, but about something else"),
        pytest.param("Dogs?", "Dogs are welcome on every pier of the town [1].", id="not what it says"),
        pytest.param("Does it run on Sundays?", "The ferry runs on Sundays [3].", id="the contrary"),
        pytest.param("When does the harbour close?", "I don't know.", id="does not know"),
        pytest.param(
            "When does the harbour close?", "The passages do not say when the harbour closes [1].", id="does not say"
        ),
        pytest.param("When?", "I’m sorry, I cannot find when the harbour of Lindmouth closes.", id="cannot find"),
        pytest.param("Wann schließt der Hafen?", "Das weiß ich nicht.", id="weiß nicht"),
        pytest.param("What of boats?", "Boats are nice things to have in summer.", id="one word shared"),
        pytest.param("Hello", "Hello! How can I help you today?", id="small talk"),
        pytest.param("Hello", "Passage [1]", id="a mark alone"),
        pytest.param("Hello", "", id="nothing said"),
        pytest.param("Hello", "42", id="a number alone"),
    ],
)
def test_cites_nothing(question: str, answer: str) -> None:
    assert numbers(question, answer) == []


@pytest.mark.parametrize("mark", ["[7]", "[0]", "[99]", "[4]", "[2]"])
def test_a_wrong_number_is_put_right_or_dropped(mark: str) -> None:
    assert numbers("Who steers the ferry?", f"Captain Ines Varga has steered it since 1998 {mark}.") == [3]
    assert numbers("Who steers the ferry?", f"Somebody whom nobody knows by name {mark}.") == []


def test_who_begins_with_not_knowing_is_cited_only_where_named() -> None:
    answer = "The documents do not say who built it. The ferry to Skarholm runs every forty minutes"
    assert numbers("Who built the ferry?", f"{answer}.") == []
    assert numbers("Who built the ferry?", f"{answer} [3].") == [3]


def test_a_citation_leads_to_its_passage() -> None:
    [citation] = cite("Captain Ines Varga steers it [3].", "Who steers the ferry?", QUOTATIONS)
    ferry = PASSAGES[2]
    assert (citation.document_id, citation.chunk_id) == (ferry.document_id, ferry.chunk_id)
    assert (citation.document_name, citation.page, citation.score) == ("ferry.pdf", 3, ferry.score)
    assert citation.snippet == "Captain Ines Varga has steered it since 1998."


def test_nothing_is_cited_that_the_model_was_not_shown() -> None:
    ferry = PASSAGES[2]
    shown = Quotation(1, ferry, 0, ferry.text.index(" It does not"))
    assert cite("A ticket costs 4 euros.", "What is a ticket?", [shown]) == []
    assert cite("The ferry to Skarholm runs every forty minutes.", "How often?", [shown])


def test_a_snippet_is_verbatim_and_cut_between_words() -> None:
    text = "Of the many boats " + "that lie in this harbour and wait for the wind to turn " * 12 + "is the Osprey red."
    quotation = Quotation(1, passage(text), 0, len(text))
    [citation] = cite("The Osprey is red [1].", "Which boat is red?", [quotation])
    assert 0 < len(citation.snippet) <= MAX_SNIPPET
    assert citation.snippet.endswith("Osprey red.")
    start = text.index(citation.snippet)
    assert text[start - 1] == " "


def test_scripts_without_spaces_are_cited_too() -> None:
    quotations = [
        Quotation(number, passage(text, name=f"{number}"), 0, len(text))
        for number, text in enumerate(["港口晚上十点关门。早上六点开门。", "博物馆下午五点关门。"], 1)
    ]
    assert [citation.index for citation in cite("港口晚上十点关门。", "港口什么时候关门？", quotations)] == [1]


@pytest.mark.parametrize(
    "answer",
    [
        "do not " * 4_000, "[1" * 10_000, "a" + " " * 20_000 + "x", "no a a a a " * 3_000, "[" * 20_000, "1,1" * 8_000,
        "." * 20_000, "。" * 20_000,
    ],
)  # fmt: skip
def test_no_answer_takes_long(answer: str) -> None:
    started = time.process_time()
    cite(answer, "When does the harbour close?", QUOTATIONS)
    assert time.process_time() - started < 1
