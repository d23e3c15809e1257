"""Vectors that a test can foretell."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from chat_api.clients.connection import AgentRefused, AgentUnavailable
from chat_api.clients.embeddings import TextVectors
from shared.problems import Problem, ProblemDocument


class TopicEmbedder:
    """A `TextEmbedder` of one dimension for each topic, and one for all else: what has a word of it is about it."""

    def __init__(self, *topics: set[str], name: str = "fake:topics") -> None:
        self._topics = topics
        self.name = name
        self.texts: list[str] = []
        self.problem: Problem | None = None
        self.refused: str | None = None
        """A text that breaks every batch it is in."""
        self.gate: asyncio.Event | None = None
        self.is_held = asyncio.Event()
        """Set when somebody waits at the gate."""

    async def model(self) -> str:
        if self.problem is not None:
            raise self.problem
        return f"{self.name}:{len(self._topics) + 1}"

    async def embed(self, texts: Sequence[str]) -> TextVectors:
        if self.gate is not None:
            self.is_held.set()
            await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        if self.refused is not None and self.refused in texts:
            raise unreadable()
        self.texts += texts
        return TextVectors(await self.model(), [self._vector(text) for text in texts])

    def _vector(self, text: str) -> list[float]:
        words = set(text.lower().split())
        vector = [float(len(words & topic)) for topic in self._topics]
        vector.append(0.0 if any(vector) else 1.0)
        length = math.hypot(*vector)
        return [number / length for number in vector]


def away() -> AgentUnavailable:
    return AgentUnavailable(retry_after=1)


def unreadable() -> AgentRefused:
    return AgentRefused(ProblemDocument(title="No", status=422, detail="No.", code="no"))
