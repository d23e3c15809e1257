"""Puts a document into a collection: cuts it into passages, embeds those whose text is new, and publishes them all.

No transaction is open while texts are embedded. Vectors are kept as they come, so that a put that is cut goes on from
there, and the last step replaces the document as a whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from uuid import UUID

from agent_service.application.embedding_model import EmbeddingModelGuard
from agent_service.domain.chunking import SPECIAL_TOKENS, CountTokens
from agent_service.domain.collection_names import stored_id
from agent_service.domain.index_problems import IndexUnavailable
from agent_service.domain.passage import NewChunk
from agent_service.ports.embedder import Embedder
from agent_service.ports.index import DocumentIndex, ModelReplaced, NewDocument, VectorsMissing
from shared.contracts.knowledge import Block, DocumentPut, IndexedDocument, IndexEvent, IndexFailed, IndexProgress
from shared.logging import get_logger, request_id_var
from shared.problems import Problem

log = get_logger("index")

SLICE = 64
"""Texts that are embedded at a time: what is lost when a put is cut, and held as vectors in memory."""

_ATTEMPTS = 5  # each time, documents that had known the same texts were deleted just then

Cut = Callable[[Sequence[Block], CountTokens, int], list[NewChunk]]
"""Blocks to passages of so many tokens at most, special ones among them. Takes its time: call it in a thread."""


class DocumentIndexer:
    """`progress_seconds` is the least time between two reports of progress."""

    def __init__(
        self,
        index: DocumentIndex,
        embedder: Embedder,
        guard: EmbeddingModelGuard,
        cut: Cut,
        *,
        max_tokens: int,
        progress_seconds: float = 0.25,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._guard = guard
        self._cut = cut
        self._max_tokens = max_tokens
        self._progress_seconds = progress_seconds

    async def admit(self, collection_id: UUID, document_id: UUID, version: int, *, owner_id: UUID | None) -> None:
        """Refuse early what would be refused at the end.

        Raises `CollectionDeleted`, `StaleVersion`, `EmbeddingModelChanged`, `IndexUnavailable`.
        """
        await self._guard.for_writing()
        await self._index.admit(stored_id(collection_id, owner_id), document_id, version, owner_id=owner_id)

    async def put(
        self, collection_id: UUID, document_id: UUID, document: DocumentPut, *, owner_id: UUID | None
    ) -> AsyncGenerator[IndexEvent]:
        """Any number of `progress`, then `indexed` or `error`: a failure is the last event, and never raised.

        Closing the generator stops the put. What is searched is then as it was.
        """
        fields = {"collection_id": str(collection_id), "document_id": str(document_id), "version": document.version}
        collection = stored_id(collection_id, owner_id)
        try:
            async with aclosing(self._put(collection, document_id, document)) as events:
                async for event in events:
                    if isinstance(event, IndexedDocument):
                        log.info("document.indexed", **fields, chunks=event.chunk_count, embedded=event.embedded)
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            log.info("document.put_cut", **fields)
            raise
        except Problem as problem:
            log.warning("document.put_failed", **fields, code=problem.code)
            yield _failed(problem)
        except Exception:
            # The boundary: whatever broke, the caller gets a last event, and the log the trace.
            log.exception("document.put_crashed", **fields)
            yield _failed(Problem())

    async def _put(self, collection_id: UUID, document_id: UUID, put: DocumentPut) -> AsyncGenerator[IndexEvent]:
        chunks = await self._chunks(put.blocks)
        document = NewDocument(collection_id, document_id, put.version, put.name, chunks)
        embedded = 0
        for _ in range(_ATTEMPTS):
            model_id = await self._guard.for_writing()
            if await self._index.holds(document, model_id):
                break
            missing = await self._missing_texts(document, model_id)
            embedded += len(missing)
            async with aclosing(self._embed(document, missing, model_id)) as events:
                async for event in events:
                    yield event
            try:
                await self._index.publish(document, model_id)
            except (VectorsMissing, ModelReplaced):
                continue
            await self._tidy(document, model_id)
            break
        else:
            raise IndexUnavailable("The index changes faster than the document can be put. Try again.")
        yield IndexedDocument(document_id=document_id, version=put.version, chunk_count=len(chunks), embedded=embedded)

    async def _chunks(self, blocks: Sequence[Block]) -> list[NewChunk]:
        loop = asyncio.get_running_loop()
        is_cut_short = threading.Event()

        def count(texts: Sequence[str]) -> list[int]:
            if is_cut_short.is_set():
                raise RuntimeError("nobody waits for these passages any more")
            return asyncio.run_coroutine_threadsafe(self._embedder.count_tokens(texts), loop).result()

        max_tokens = min(self._max_tokens, self._embedder.max_tokens + SPECIAL_TOKENS)
        try:
            return await asyncio.to_thread(self._cut, blocks, count, max_tokens)
        finally:
            is_cut_short.set()

    async def _missing_texts(self, document: NewDocument, model_id: int) -> dict[bytes, str]:
        """Texts without a vector, by their hashes, the longest first: like lengths go together."""
        texts = {chunk.text_hash: chunk.embedded_text for chunk in document.chunks}
        known = await self._index.known_texts(model_id, list(texts))
        missing = [(key, text) for key, text in texts.items() if key not in known]
        return dict(sorted(missing, key=lambda item: len(item[1]), reverse=True))

    async def _embed(
        self, document: NewDocument, missing: dict[bytes, str], model_id: int
    ) -> AsyncGenerator[IndexEvent]:
        loop = asyncio.get_running_loop()
        total = len(document.chunks)
        uses = Counter(key for key in (chunk.text_hash for chunk in document.chunks) if key in missing)
        left, texts = uses.total(), list(missing.items())
        yield IndexProgress(done=total - left, total=total)
        reported_at = loop.time()
        for start in range(0, len(texts), SLICE):
            keys, slice_ = zip(*texts[start : start + SLICE], strict=True)
            embeddings = await self._embedder.embed(slice_)
            await self._index.keep_vectors(model_id, dict(zip(keys, embeddings.vectors, strict=True)))
            left -= sum(uses[key] for key in keys)
            if loop.time() - reported_at >= self._progress_seconds or not left:
                reported_at = loop.time()
                yield IndexProgress(done=total - left, total=total)

    async def _tidy(self, document: NewDocument, model_id: int) -> None:
        """After the document is published: what fails here is made good by the next put."""
        try:
            await self._index.forget_kept(model_id, [chunk.text_hash for chunk in document.chunks])
            await self._index.settle_weights(document.collection_id)
        except IndexUnavailable:
            log.warning("document.left_untidy", document_id=str(document.id))


def _failed(problem: Problem) -> IndexFailed:
    return IndexFailed(problem=problem.document(request_id_var.get()), retry_after=problem.retry_after)
