"""Passages are whole sentences under one heading, and stand in the document's text where they say."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.chunking import SPECIAL_TOKENS, chunk, document_text
from agent_service.domain.passage import NewChunk
from shared.contracts.knowledge import Block

MAX_TOKENS = 40


class CountWords:
    """A tokenizer for which a word is a token for each four characters it has. Notes how often it is called."""

    def __init__(self, special: int = 0) -> None:
        self._special = special
        self.calls = 0

    def __call__(self, texts: Sequence[str]) -> list[int]:
        self.calls += 1
        return [self.count(text) + self._special for text in texts]

    @staticmethod
    def count(text: str) -> int:
        return sum(-(-len(word) // 4) for word in text.split())


def sentence(words: int, number: int = 0) -> str:
    """A token each word."""
    return " ".join(["Abcd", *["efgh"] * (words - 2), f"{number:03}."])


def text_of(*lengths: int) -> str:
    return " ".join(sentence(length, number) for number, length in enumerate(lengths))


def chunks(*blocks: Block, max_tokens: int = MAX_TOKENS, special: int = 0) -> list[NewChunk]:
    found = chunk(blocks, CountWords(special), max_tokens)
    text = document_text(blocks)
    assert all(each.text == text[each.start : each.end] for each in found)
    return found


def test_a_short_document_is_one_chunk() -> None:
    block = Block(text="It closes at ten in the evening.", heading="Harbour › Opening hours", page=3)
    assert chunks(block) == [
        NewChunk("It closes at ten in the evening.", "Harbour › Opening hours", 3, start=0, end=32)
    ]
    assert chunks(block)[0].embedded_text == "Harbour › Opening hours\nIt closes at ten in the evening."


def test_a_document_without_words_has_no_chunks() -> None:
    assert chunks() == []
    assert chunks(Block(text=" \n\n ")) == []


def test_without_a_heading_the_text_alone_is_embedded() -> None:
    assert chunks(Block(text="It closes."))[0].embedded_text == "It closes."


def test_sentences_stay_whole() -> None:
    found = chunks(Block(text=text_of(*[7] * 30)))
    assert len(found) == 6
    assert all(each.text.startswith("Abcd") and each.text.endswith(".") for each in found)


def test_chunks_of_a_section_are_of_like_size() -> None:
    found = chunks(Block(text=text_of(*[6] * 7)))
    assert [CountWords.count(each.text) for each in found] == [24, 18]


def test_a_long_section_leaves_no_small_tail() -> None:
    found = chunks(Block(text=text_of(*[12] * 46, 4)))
    sizes = [CountWords.count(each.text) for each in found]
    assert len(sizes) == 16
    assert min(sizes) >= 16
    assert max(sizes) <= MAX_TOKENS - SPECIAL_TOKENS


def test_a_chunk_never_crosses_headings() -> None:
    found = chunks(
        Block(text="First words here.", heading="A"),
        Block(text="Second words here.", heading="A › B"),
        Block(text="Third words here.", heading="A"),
    )
    assert [(each.heading, each.text) for each in found] == [
        ("A", "First words here."), ("A › B", "Second words here."), ("A", "Third words here."),
    ]  # fmt: skip


def test_a_chunk_may_cross_pages_and_stands_where_it_begins() -> None:
    found = chunks(
        Block(text=text_of(20, 10), page=1), Block(text=text_of(10, 20), page=2), Block(text="The end is here.", page=3)
    )
    assert [each.page for each in found] == [1, 2]
    assert found[-1].text.endswith("The end is here.")


def test_a_sentence_that_a_page_cuts_stays_whole() -> None:
    found = chunks(
        Block(text=f"{sentence(24)} The harbour that lies", page=1),
        Block(text=f"in the north is old. {sentence(24)}", page=2),
    )
    assert len(found) == 2
    assert any("that lies\n\nin the north" in each.text for each in found)


def test_the_heading_counts() -> None:
    heading = "abcd " * 10 + "efgh"
    bare, headed = (chunks(Block(text=text_of(*[6] * 12), heading=each)) for each in (None, heading))
    assert len(headed) > len(bare)
    assert max(CountWords.count(each.embedded_text) for each in headed) <= MAX_TOKENS - SPECIAL_TOKENS


def test_of_a_heading_that_is_too_long_the_end_is_shown() -> None:
    path = " › ".join(["abcd " * 10 + "A", "abcd " * 10 + "B", "The nearest"])
    assert chunks(Block(text="Some words.", heading=path))[0].heading == "abcd " * 10 + "B › The nearest"
    (found,) = chunks(Block(text="Some words.", heading="abcd " * 60))
    assert CountWords.count(found.embedded_text) <= MAX_TOKENS - SPECIAL_TOKENS


@pytest.mark.parametrize(
    ("text", "border"),
    [
        pytest.param(", ".join(["Abcd efgh ijkl mnop qrst"] * 30) + ".", (",", "."), id="clauses"),
        pytest.param("Word" + " abcd" * 300 + ".", ("d",), id="words"),
    ],
)
def test_a_sentence_that_is_too_long_is_cut_where_it_hurts_least(text: str, border: tuple[str, ...]) -> None:
    found = chunks(Block(text=text))
    assert len(found) > 3
    assert all(each.text.endswith(border) for each in found[:-1])
    assert max(CountWords.count(each.text) for each in found) <= MAX_TOKENS - SPECIAL_TOKENS


def test_a_giant_word_is_cut_by_characters() -> None:
    found = chunks(Block(text="a" * 10_000))
    assert "".join(each.text for each in found) == "a" * 10_000
    assert max(CountWords.count(each.text) for each in found) <= MAX_TOKENS - SPECIAL_TOKENS


def test_a_word_that_counts_as_one_unknown_token_is_cut_all_the_same() -> None:
    found = chunk([Block(text="a" * 100_000)], lambda texts: [len(text.split()) for text in texts], MAX_TOKENS)
    assert max(len(each.text) for each in found) <= MAX_TOKENS * 10


def test_special_tokens_of_every_count_are_not_added_up() -> None:
    block = Block(text=text_of(*[7] * 30), heading="Heading")
    assert chunks(block, special=2) == chunks(block, special=0)


def test_tokens_are_counted_in_few_calls() -> None:
    counter = CountWords()
    chunk([Block(text=text_of(*[8] * 50), heading=f"H {number}") for number in range(50)], counter, MAX_TOKENS)
    assert counter.calls == 2


BLOCKS = st.lists(
    st.builds(
        Block,
        text=st.text(st.sampled_from("abcXYZ  .,;!?\n-字。é1"), min_size=1, max_size=400),
        heading=st.sampled_from([None, "A", "A › B", "a long heading " * 10]),
        page=st.sampled_from([None, 1, 2]),
    ),
    max_size=8,
)


@given(BLOCKS, st.sampled_from([0, 2]))
def test_chunks_are_in_order_within_the_limit_and_all_of_the_text(blocks: list[Block], special: int) -> None:
    found = chunks(*blocks, max_tokens=32, special=special)
    text = document_text(blocks)
    end = 0
    for each in found:
        assert each.start >= end
        assert not text[end : each.start].strip()
        assert each.text.strip() == each.text != ""
        assert CountWords.count(each.embedded_text) <= 32 - SPECIAL_TOKENS
        end = each.end
    assert not text[end:].strip()


@pytest.mark.parametrize("unit", ["a", ".", " ", "\n", ". ", "a ", "字。", ",", "1. ", "\n- "])
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    blocks = [Block(text=unit * (200_000 // len(unit))) for _ in range(2)]
    started = time.process_time()
    chunk(blocks, CountWords(), 256)
    assert time.process_time() - started < 5  # a quadratic step would take minutes
