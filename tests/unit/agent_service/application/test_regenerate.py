"""The steps of a change of embedding model, over an index in memory. The real one is tested over PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from agent_service.application.regenerate import Regeneration
from agent_service.domain.index_problems import EmbeddingModelChanged
from agent_service.ports.embedder import Vector
from agent_service.ports.embedding_models import IndexModel, OutdatedText
from tests.fakes.embedder import HashingEmbedder


class Texts:
    """An `EmbeddingModels`: texts by their hashes, and the model of each one's vector."""

    def __init__(self, texts: Mapping[bytes, str], *, known: Mapping[bytes, Vector] | None = None) -> None:
        self.texts = texts
        self.models = dict.fromkeys(texts, 1)
        self.known = known or {}
        self.state = IndexModel(1, "local:old:384", complete=True)
        self.taken_by: IndexModel | None = None

    async def current(self) -> IndexModel:
        return self.taken_by or self.state

    async def adopt(self, name: str, dimensions: int) -> IndexModel:
        return self.state

    async def assign(self, name: str, dimensions: int) -> IndexModel:
        self.state = IndexModel(2, name, complete=False)
        return self.state

    async def outdated(self, model_id: int, *, after: bytes, limit: int) -> list[OutdatedText]:
        hashes = sorted(key for key, model in self.models.items() if model != model_id and key > after)
        return [OutdatedText(key, self.texts[key], self.known.get(key)) for key in hashes[:limit]]

    async def replace(self, model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        self.models.update(dict.fromkeys(vectors, model_id))

    async def finish(self, model_id: int) -> bool:
        if self.taken_by is not None:
            return False
        self.state = IndexModel(model_id, self.state.name, complete=True)
        return True

    async def progress(self, model_id: int) -> tuple[int, int]:
        return sum(model == model_id for model in self.models.values()), len(self.models)


TEXTS = {bytes([number]): f"text {number}" for number in range(10)}


def regeneration(models: Texts, embedder: HashingEmbedder, *, batches: int, begins_after: bytes = b"") -> Regeneration:
    ticks = itertools.count()
    return Regeneration(
        models,
        embedder,
        batch_texts=3,
        step_seconds=batches + 0.5,
        clock=lambda: float(next(ticks)),
        begins_after=begins_after,
    )


async def test_a_step_is_bounded_and_the_last_one_completes() -> None:
    models = Texts(TEXTS)
    steps = regeneration(models, HashingEmbedder(), batches=2)
    first = await steps.step()
    assert (first.done, first.total, first.embedding_model) == (6, 10, "local:hashing:384")
    assert not models.state.complete
    assert (await steps.step()).done == 10
    assert models.state.complete


async def test_it_begins_anywhere_and_goes_round() -> None:
    models, embedder = Texts(TEXTS), HashingEmbedder()
    step = await regeneration(models, embedder, batches=5, begins_after=bytes([6])).step()
    assert step.done == 10
    assert embedder.embedded == [f"text {number}" for number in (7, 8, 9, 0, 1, 2, 3, 4, 5, 6)]


async def test_what_has_a_vector_of_the_model_is_not_embedded() -> None:
    embedder = HashingEmbedder()
    known = {key: embedder.vector(text) for key, text in list(TEXTS.items())[:4]}
    models = Texts(TEXTS, known=known)
    assert (await regeneration(models, embedder, batches=9).step()).done == 10
    assert embedder.embedded == [f"text {number}" for number in range(4, 10)]


async def test_whoever_has_been_overtaken_does_not_say_that_it_is_done() -> None:
    models = Texts(TEXTS)
    models.taken_by = None
    steps = regeneration(models, HashingEmbedder(), batches=9)

    async def overtaken(model_id: int, vectors: Mapping[bytes, Vector]) -> None:
        await Texts.replace(models, model_id, vectors)
        models.taken_by = IndexModel(3, "google_genai:third:512", complete=False)

    models.replace = overtaken  # type: ignore[method-assign]  # the moment in which somebody else comes
    with pytest.raises(EmbeddingModelChanged, match="google_genai:third:512"):
        await steps.step()
