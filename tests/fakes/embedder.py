"""An embedder without a model."""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.ports.embedder import Embeddings


class QuickEmbedder:
    """Every text points the same way."""

    model = "quick"
    dimensions = 3

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings([[1.0, 0.0, 0.0] for _ in texts], tokens=len(texts))
