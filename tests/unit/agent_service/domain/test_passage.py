"""Passages: by what they are known."""

from __future__ import annotations

from agent_service.domain.passage import NewChunk


def chunk(text: str, heading: str | None, *, page: int | None = None, start: int = 0) -> NewChunk:
    return NewChunk(text, heading, page, start, start + len(text))


def test_what_the_embedder_reads_is_what_a_text_is_known_by() -> None:
    known = chunk("It closes at ten.", "Harbour")
    assert known.embedded_text == "Harbour\nIt closes at ten."
    assert chunk("It closes at ten.", "Harbour", page=3, start=40).text_hash == known.text_hash
    assert len({each.text_hash for each in (known, chunk("It closes at ten.", None), chunk("At ten.", "Harbour"))}) == 3


def test_it_is_hashed_once() -> None:
    known = chunk("It closes at ten.", None)
    assert known.text_hash is known.text_hash
