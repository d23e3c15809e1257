"""The bundled embedding model, as it is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent_service.adapters.local_embedder import MAX_TOKENS, LocalEmbedder, batches
from agent_service.ports.embedder import EmbeddingPurpose, Vector

ONE_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> AsyncIterator[LocalEmbedder]:
    embedder = LocalEmbedder()
    yield embedder
    await embedder.aclose()


def cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("lengths", [[], [5], [256] * 3, [3, 250, 3, 250, 3], [10] * 100, list(range(2, 257))])
def test_batches_hold_every_text_once_and_little_padding(lengths: list[int]) -> None:
    groups = batches(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or (len(group) <= 32 and len(group) * longest <= 256)


@ONE_LOOP
async def test_tokens_are_counted_whole_and_without_those_around_the_text(embedder: LocalEmbedder) -> None:
    texts = ["", "harbour", "The harbour closes at ten.", "word " * 1000, "a" * 50_000]
    assert await embedder.count_tokens(texts) == [0, 1, 6, 1000, 1]
    many = ["one two three"] * 5_000
    assert await embedder.count_tokens(many) == [3] * 5_000


@ONE_LOOP
async def test_what_goes_beyond_the_window_is_not_read(embedder: LocalEmbedder) -> None:
    read = "harbour " * MAX_TOKENS
    whole, longer, shorter = (
        await embedder.embed([read, read + "bicycles " * 50, "harbour " * (MAX_TOKENS - 4) + "bicycles " * 4])
    ).vectors
    assert cosine(whole, longer) == pytest.approx(1, abs=1e-5)
    assert cosine(whole, shorter) < 0.999
    assert (await embedder.embed([read + "more"])).tokens == MAX_TOKENS + 2


@ONE_LOOP
async def test_vectors_are_short_floats_of_unit_length(embedder: LocalEmbedder) -> None:
    texts = [f"part {number} " * (number % 7 + 1) for number in range(40)]
    vectors = (await embedder.embed(texts)).vectors
    for vector in vectors:
        assert (vector.typecode, len(vector)) == ("f", embedder.dimensions)
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
    alone = (await embedder.embed(texts[7:8], EmbeddingPurpose.QUERY)).vectors[0]
    assert cosine(alone, vectors[7]) > 0.999


@ONE_LOOP
async def test_a_query_does_not_wait_for_a_document(embedder: LocalEmbedder) -> None:
    await embedder.embed(["loaded"])
    document = asyncio.create_task(embedder.embed([f"{number} " + "harbour " * 250 for number in range(60)]))
    await asyncio.sleep(0.05)
    for _ in range(3):
        await embedder.embed(["When does the harbour close?"], EmbeddingPurpose.QUERY)
    assert not document.done()
    document.cancel()
    await asyncio.wait({document})


@ONE_LOOP
async def test_no_texts_are_no_vectors(embedder: LocalEmbedder) -> None:
    assert (await embedder.embed([])).vectors == []
    assert await embedder.count_tokens([]) == []
