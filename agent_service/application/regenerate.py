"""Gives the index to the configured embedding model: every passage is embedded again, a step at a time.

Nothing is remembered between steps but what is in the index itself, so whoever is killed on the way is simply called
again. Texts are gone through by their hashes, from a place of each process's own, so that two that work at once
meet only at the end; where they do, the second finds nothing left to replace.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from time import monotonic

from agent_service.domain.index_problems import EmbeddingModelChanged
from agent_service.ports.embedder import Embedder
from agent_service.ports.embedding_models import EmbeddingModels, OutdatedText
from shared.contracts.knowledge import RegenerationStep
from shared.logging import get_logger

log = get_logger("embeddings.regenerate")

_BATCH_TEXTS = 64
_STEP_SECONDS = 3.0
"""After which no more batches are begun: a batch takes a second or two where the model runs on this machine."""
_BEFORE_ALL = b""


class Regeneration:
    def __init__(
        self,
        models: EmbeddingModels,
        embedder: Embedder,
        *,
        step_seconds: float = _STEP_SECONDS,
        batch_texts: int = _BATCH_TEXTS,
        clock: Callable[[], float] = monotonic,
        begins_after: bytes | None = None,
    ) -> None:
        self._models = models
        self._embedder = embedder
        self._configured = f"{embedder.name}:{embedder.dimensions}"
        self._step_seconds = step_seconds
        self._batch_texts = batch_texts
        self._clock = clock
        self._after = begins_after if begins_after is not None else secrets.token_bytes(32)
        self._turn = asyncio.Lock()

    async def step(self) -> RegenerationStep:
        """Replace vectors for some seconds. `done == total` says that the index is the configured model's.

        Raises an `EmbedderProblem`, `IndexUnavailable`, or `EmbeddingModelChanged` where another configuration took
        the index meanwhile; what was replaced before stays replaced.
        """
        async with self._turn:
            current = await self._models.current()
            if current is None:
                current = await self._models.adopt(self._configured, self._embedder.dimensions)
            if current.name != self._configured:
                log.info("embeddings.regeneration_began", of=current.name, to=self._configured)
                current = await self._models.assign(self._configured, self._embedder.dimensions)
            if not current.complete:
                await self._replace(current.id)
            done, total = await self._models.progress(current.id)
            if done == total and not current.complete:
                await self._finish(current.id)
            return RegenerationStep(done=done, total=total, embedding_model=self._configured)

    async def _replace(self, model_id: int) -> None:
        ends = self._clock() + self._step_seconds
        while self._clock() < ends and (texts := await self._next(model_id)):
            await self._embed(model_id, texts)

    async def _finish(self, model_id: int) -> None:
        if not await self._models.finish(model_id):
            # Somebody with another configuration asked for the same at the same time.
            current = await self._models.current()
            raise EmbeddingModelChanged(current.name if current is not None else "nobody", self._configured)
        log.info("embeddings.regenerated", model=self._configured)

    async def _next(self, model_id: int) -> list[OutdatedText]:
        texts = await self._models.outdated(model_id, after=self._after, limit=self._batch_texts)
        if not texts and self._after != _BEFORE_ALL:
            texts = await self._models.outdated(model_id, after=_BEFORE_ALL, limit=self._batch_texts)
        self._after = texts[-1].text_hash if texts else _BEFORE_ALL
        return texts

    async def _embed(self, model_id: int, texts: list[OutdatedText]) -> None:
        vectors = {text.text_hash: text.vector for text in texts if text.vector is not None}
        if unknown := [text for text in texts if text.vector is None]:
            embedded = await self._embedder.embed([text.text for text in unknown])
            vectors.update(zip((text.text_hash for text in unknown), embedded.vectors, strict=True))
        await self._models.replace(model_id, vectors)
