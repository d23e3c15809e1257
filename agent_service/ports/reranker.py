"""A model that reads a question and a passage together, and says how well they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RerankFailed(Exception):
    """There are no scores. The search goes on without them."""


class Reranker(Protocol):
    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score between 0 and 1 for each text, in their order. Raises `RerankFailed`."""
        ...
