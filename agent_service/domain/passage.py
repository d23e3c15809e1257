"""Passages of documents: what is embedded, found and cited."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


def embedded_text(heading: str | None, text: str) -> str:
    """What the embedder reads: a passage means more under its heading."""
    return f"{heading}\n{text}" if heading is not None else text


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A passage that is about to be indexed.

    `start` and `end` are characters of the document's text (its blocks joined by a blank line), `end` excluded, and
    `text` is exactly what stands there. `page` is where it begins. By `text_hash` a text is known that has a vector
    already, in whichever document it stands.
    """

    text: str
    heading: str | None
    page: int | None
    start: int
    end: int
    text_hash: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Here, where documents are cut, which is in a thread: later it would be done again and again, on the loop.
        object.__setattr__(self, "text_hash", hashlib.sha256(self.embedded_text.encode()).digest())

    @property
    def embedded_text(self) -> str:
        return embedded_text(self.heading, self.text)
