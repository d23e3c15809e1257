"""Embedders without a model."""

from __future__ import annotations

import asyncio
import hashlib
import math
from array import array
from collections.abc import Sequence

from agent_service.domain.embedding_problems import EmbedderUnavailable
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings, Vector


class QuickEmbedder:
    """Every text points the same way."""

    name = "local:quick"
    dimensions = 3
    max_tokens = 256

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        return Embeddings([array("f", [1.0, 0.0, 0.0]) for _ in texts], tokens=len(texts))


class HashingEmbedder:
    """Each word points its own way, so texts with words in common are close. Counts words as tokens.

    `embedded` lists every text that was embedded, in order. Once `fails_after` more texts are embedded, it fails.
    `pause` is how many seconds it takes for any number of texts.
    """

    def __init__(self, name: str = "local:hashing", dimensions: int = 384, max_tokens: int = 256) -> None:
        self.name = name
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.embedded: list[str] = []
        self.fails_after: int | None = None
        self.pause = 0.0

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        if self.pause:
            await asyncio.sleep(self.pause)
        if purpose is EmbeddingPurpose.DOCUMENT:
            if self.fails_after is not None:
                if len(texts) > self.fails_after:
                    raise EmbedderUnavailable
                self.fails_after -= len(texts)
            self.embedded.extend(texts)
        return Embeddings([self.vector(text) for text in texts], tokens=sum(len(text.split()) for text in texts))

    def vector(self, text: str) -> Vector:
        sums = [0.0] * self.dimensions
        for word in text.lower().split() or [""]:
            digest = hashlib.sha256(f"{self.name} {word}".encode()).digest()
            for start in range(0, 16, 4):
                sums[int.from_bytes(digest[start : start + 4], "big") % self.dimensions] += 1.0 + digest[start] / 256
        norm = math.hypot(*sums)
        return array("f", [value / norm for value in sums])
