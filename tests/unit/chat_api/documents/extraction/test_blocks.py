"""What is read becomes blocks that the agent service takes."""

from __future__ import annotations

import pytest

from chat_api.documents.extraction.blocks import (
    MAX_BLOCK_CHARACTERS,
    MAX_BLOCKS,
    MAX_HEADING_CHARACTERS,
    BlockWriter,
    TextBlock,
)
from chat_api.documents.extraction.failure import ExtractionFailed, Failure
from shared.contracts.knowledge import Block


@pytest.fixture
def writer() -> BlockWriter:
    return BlockWriter(max_characters=1_000_000)


def write_pages(writer: BlockWriter, count: int) -> None:
    for number in range(1, count + 1):
        writer.page(number)
        writer.paragraph("a")


def test_headings_are_a_path(writer: BlockWriter) -> None:
    writer.paragraph("Before.")
    writer.heading(1, "A")
    writer.paragraph("In A.")
    writer.heading(3, "B")
    writer.paragraph("In B.")
    writer.paragraph("More.")
    writer.heading(2, "C")
    writer.paragraph("In C.")
    assert writer.finish() == [
        TextBlock("Before.", None, None),
        TextBlock("In A.", None, "A"),
        TextBlock("In B.\n\nMore.", None, "A › B"),
        TextBlock("In C.", None, "A › C"),
    ]


def test_a_heading_with_nothing_under_it_is_text(writer: BlockWriter) -> None:
    writer.heading(1, "A")
    writer.heading(2, "B")
    writer.heading(2, "C")
    writer.paragraph("In C.")
    writer.heading(1, "D")
    assert writer.finish() == [
        TextBlock("B", None, "A"),
        TextBlock("In C.", None, "A › C"),
        TextBlock("D", None, None),
    ]


def test_a_page_ends_a_block_and_no_heading(writer: BlockWriter) -> None:
    writer.heading(1, "A")
    for number in (1, 2):
        writer.page(number)
        writer.paragraph(f"Page {number}.")
    assert writer.finish() == [TextBlock("Page 1.", 1, "A"), TextBlock("Page 2.", 2, "A")]


def test_long_paths_keep_their_end(writer: BlockWriter) -> None:
    writer.heading(1, "a" * 200)
    writer.heading(2, "b" * 200)
    writer.paragraph("Text.")
    writer.heading(1, "c" * 1000)
    writer.paragraph("Text.")
    headings = [block.heading for block in writer.finish()]
    assert headings == ["b" * 200, "c" * (MAX_HEADING_CHARACTERS - 1) + "…"]


@pytest.mark.parametrize("unit", ["word ", "a line\n", "x"])
def test_long_text_is_cut_into_blocks_that_keep_all_of_it(unit: str, writer: BlockWriter) -> None:
    text = unit * (500_000 // len(unit))
    writer.paragraph(text)
    blocks = writer.finish()
    assert len(blocks) > 1
    assert all(len(block.text) <= MAX_BLOCK_CHARACTERS for block in blocks)
    assert "".join("".join(block.text for block in blocks).split()) == "".join(text.split())
    for block in blocks:
        Block.model_validate(block._asdict())


def test_more_text_than_allowed_is_refused() -> None:
    writer = BlockWriter(max_characters=10)
    writer.paragraph("a" * 10)
    with pytest.raises(ExtractionFailed, match="10 characters") as failed:
        writer.paragraph("b")
    assert failed.value.failure is Failure.TOO_LONG


def test_headings_cannot_outgrow_the_text() -> None:
    writer = BlockWriter(max_characters=10_000)
    writer.heading(1, "h" * 290)
    with pytest.raises(ExtractionFailed) as failed:
        write_pages(writer, 1000)
    assert failed.value.failure is Failure.TOO_COMPLEX


def test_very_many_blocks_are_refused(writer: BlockWriter) -> None:
    with pytest.raises(ExtractionFailed) as failed:
        write_pages(writer, MAX_BLOCKS + 2)
    assert failed.value.failure is Failure.TOO_COMPLEX
