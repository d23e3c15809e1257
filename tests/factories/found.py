"""Passages as a search returns them."""

from __future__ import annotations

from uuid import UUID, uuid5

from shared.contracts.knowledge import Passage

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")


def passage(
    text: str,
    *,
    name: str = "harbour.md",
    heading: str | None = None,
    page: int | None = None,
    score: float = 0.5,
) -> Passage:
    """The same text in a document of the same name is the same passage."""
    document_id = uuid5(COLLECTION, name)
    return Passage(
        chunk_id=uuid5(document_id, text),
        collection_id=COLLECTION,
        document_id=document_id,
        document_name=name,
        position=0,
        text=text,
        heading=heading,
        page=page,
        start=0,
        end=len(text),
        score=score,
        dense_score=score,
        text_score=None,
    )
