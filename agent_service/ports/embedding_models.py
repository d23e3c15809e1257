"""Whose vectors the index holds, and how they are replaced by those of another embedding model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent_service.ports.embedder import Vector


@dataclass(frozen=True, slots=True)
class IndexModel:
    """The embedding model that the index belongs to. While it changes to that model, it is not `complete`.

    `name` says provider, model and dimensions: `local:all-MiniLM-L6-v2:384`.
    """

    id: int
    name: str
    complete: bool


@dataclass(frozen=True, slots=True)
class OutdatedText:
    """A text whose vectors are another model's. `vector` is set where it has one of the right model as well."""

    text_hash: bytes
    text: str
    vector: Vector | None


class EmbeddingModels(Protocol):
    """Every method raises `IndexUnavailable` when the store does not answer."""

    async def current(self) -> IndexModel | None:
        """None for an index that never held a vector."""
        ...

    async def adopt(self, name: str, dimensions: int) -> IndexModel:
        """Give the index to the model if it holds no vectors. Whose it is now."""
        ...

    async def assign(self, name: str, dimensions: int) -> IndexModel:
        """Give the index to the model, whatever it holds. From then on nothing is published by another model."""
        ...

    async def outdated(self, model_id: int, *, after: bytes, limit: int) -> list[OutdatedText]:
        """Texts with vectors of other models, by their hashes, from the first one behind `after`."""
        ...

    async def replace(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        """Put these vectors in the place of other models' for the same texts, in one step.

        Leaves out what somebody is changing at this moment, and does nothing once the index belongs to another model.
        """
        ...

    async def finish(self, model_id: int) -> bool:
        """Call the index complete if it belongs to the model and holds no vector of another. Whether it is."""
        ...

    async def progress(self, model_id: int) -> tuple[int, int]:
        """How many vectors are the model's, and how many there are."""
        ...
