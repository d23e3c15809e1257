"""Text to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Vector = list[float]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One unit vector per text, in the order of the texts, and how many tokens were read for them."""

    vectors: list[Vector]
    tokens: int


class Embedder(Protocol):
    @property
    def model(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Raises `EmbedderUnavailable`. Text beyond what the model reads is cut off."""
        ...
