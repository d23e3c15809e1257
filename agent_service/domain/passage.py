"""Passages of documents: what is embedded, found and cited."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A passage that is about to be indexed.

    `start` and `end` are characters of the document's text (its blocks joined by a blank line), `end` excluded, and
    `text` is exactly what stands there. `page` is where it begins.
    """

    text: str
    heading: str | None
    page: int | None
    start: int
    end: int

    @property
    def embedded_text(self) -> str:
        """What the embedder reads: a passage means more under its heading."""
        return f"{self.heading}\n{self.text}" if self.heading is not None else self.text

    @property
    def text_hash(self) -> bytes:
        """By which a text is known that has a vector already, in whichever document it stands."""
        return hashlib.sha256(self.embedded_text.encode()).digest()
