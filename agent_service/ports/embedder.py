"""Text to vectors."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

Vector: TypeAlias = "array[float]"
"""A unit vector as `array('f')`: 32-bit floats side by side, a seventh of what a list of them takes."""


class EmbeddingPurpose(StrEnum):
    """What a text is embedded for. Some models embed what is looked for otherwise than what is looked through."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One unit vector per text, in the order of the texts, and how many tokens were read for them."""

    vectors: list[Vector]
    tokens: int


class Embedder(Protocol):
    """One embedding model. Vectors of two models, or of two numbers of dimensions, cannot be compared."""

    @property
    def name(self) -> str:
        """`<provider>:<model>`."""
        ...

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text are read, without those that the model puts around each text."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, counted as `max_tokens` is. Where nobody but the provider can count, an estimate.

        Raises `EmbedderUnavailable`.
        """
        ...

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        """Raises an `EmbedderProblem`. Text beyond what the model reads is cut off. Queries overtake documents."""
        ...
