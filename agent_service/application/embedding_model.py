"""Keeps vectors of two embedding models apart: distances between them mean nothing."""

from __future__ import annotations

from agent_service.domain.index_problems import EmbeddingModelChanged, RegenerationUnfinished
from agent_service.ports.embedder import Embedder
from agent_service.ports.embedding_models import EmbeddingModels, IndexModel


class EmbeddingModelGuard:
    """Compares the configured embedding model with the one that the index belongs to."""

    def __init__(self, models: EmbeddingModels, embedder: Embedder) -> None:
        self._models = models
        self._dimensions = embedder.dimensions
        self.configured = f"{embedder.name}:{embedder.dimensions}"
        """`<provider>:<model>:<dimensions>`."""

    async def for_writing(self) -> int:
        """The id of the configured model, by which vectors may be stored. The first one takes an empty index.

        Raises `EmbeddingModelChanged`, `IndexUnavailable`.
        """
        current = await self._models.current()
        if current is None or current.name != self.configured:
            current = await self._models.adopt(self.configured, self._dimensions)
        self._check_name(current)
        return current.id

    async def for_searching(self) -> int | None:
        """The id of the model whose vectors may be searched, or None while there are none at all.

        Raises `EmbeddingModelChanged`, `RegenerationUnfinished`, `IndexUnavailable`.
        """
        current = await self._models.current()
        if current is None:
            return None
        self._check_name(current)
        if not current.complete:
            raise RegenerationUnfinished(self.configured)
        return current.id

    def _check_name(self, current: IndexModel) -> None:
        if current.name != self.configured:
            raise EmbeddingModelChanged(current.name, self.configured)
