"""The embedders of OpenAI and Gemini, before a scripted server."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from agent_service.adapters.gemini_embedder import GeminiEmbedder
from agent_service.adapters.openai_embedder import OpenAIEmbedder
from agent_service.adapters.remote_embedding import Patience
from agent_service.domain.embedding_model import EmbeddingModel, embedding_model
from agent_service.domain.embedding_problems import (
    EmbedderProblem,
    EmbedderRateLimited,
    EmbedderRejected,
    EmbedderTimeout,
    EmbedderUnavailable,
)
from agent_service.ports.embedder import EmbeddingPurpose
from shared.contracts.chat import Provider
from tests.fakes.scripted_model import ScriptedModelServer
from tests.fakes.scripted_vectors import vector

OpenEmbedder = Callable[..., OpenAIEmbedder | GeminiEmbedder]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def patience(call_seconds: float) -> dict[EmbeddingPurpose, Patience]:
    return dict.fromkeys(
        EmbeddingPurpose, Patience(attempts=2, call_seconds=call_seconds, first_wait=0.001, longest_wait=1.5)
    )


class Embedders:
    """Makes an embedder once for all tests that want the same: each reads the root certificates."""

    def __init__(self, model: ScriptedModelServer) -> None:
        self._model = model
        self._made: dict[tuple[Any, ...], OpenAIEmbedder | GeminiEmbedder] = {}

    def open(
        self, provider: str, model: str | None = None, dimensions: int | None = None, seconds: float = 30
    ) -> OpenAIEmbedder | GeminiEmbedder:
        wanted = (provider, model, dimensions, seconds)
        if wanted not in self._made:
            self._made[wanted] = self._make(embedding_model(Provider(provider), model, dimensions), seconds)
        return self._made[wanted]

    def _make(self, chosen: EmbeddingModel, seconds: float) -> OpenAIEmbedder | GeminiEmbedder:
        if chosen.provider is Provider.OPENAI:
            client = httpx.AsyncClient(timeout=seconds + 5, trust_env=False, verify=False)  # noqa: S501 - without TLS
            return OpenAIEmbedder(
                client, chosen, base_url=self._model.openai_url, api_key="openai-key", patience=patience(seconds)
            )
        return GeminiEmbedder(chosen, api_key="google-key", base_url=self._model.gemini_url, patience=patience(seconds))

    async def aclose(self) -> None:
        for embedder in self._made.values():
            await embedder.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedders(scripted_model: ScriptedModelServer) -> AsyncGenerator[Embedders]:
    embedders = Embedders(scripted_model)
    yield embedders
    await embedders.aclose()


@pytest.fixture
def open_embedder(embedders: Embedders, scripted_model: ScriptedModelServer) -> OpenEmbedder:
    """Makes an embedder of `provider`; the server's memory of requests is fresh."""
    scripted_model.forget()
    return embedders.open


BOTH = pytest.mark.parametrize("provider", ["openai", "google_genai"])


@BOTH
async def test_each_text_gets_its_own_unit_vector(provider: str, open_embedder: OpenEmbedder) -> None:
    embedder = open_embedder(provider)
    texts = [f"The harbour, part {number}." for number in range(5)]
    embeddings = await embedder.embed(texts)
    model, purpose = embedder.name.split(":")[1], "RETRIEVAL_DOCUMENT" if provider == "google_genai" else ""
    for text, got in zip(texts, embeddings.vectors, strict=True):
        assert len(got) == embedder.dimensions
        assert math.hypot(*got) == pytest.approx(1, abs=1e-6)
        raw = vector(model, purpose, text, embedder.dimensions)
        assert max(abs(one - other / 3) for one, other in zip(got, raw, strict=True)) < 1e-6
    assert embeddings.tokens > 0


@BOTH
async def test_fewer_dimensions_are_asked_for_and_made_unit_length(provider: str, open_embedder: OpenEmbedder) -> None:
    embeddings = await open_embedder(provider, None, 768).embed(["The harbour."])
    assert len(embeddings.vectors[0]) == 768
    assert math.hypot(*embeddings.vectors[0]) == pytest.approx(1, abs=1e-6)


async def test_openai_is_asked_as_its_api_has_it(
    open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    await open_embedder("openai").embed(["One.", "Two."])
    await open_embedder("openai", "text-embedding-3-large", 1024).embed(["Three."])
    own, large = scripted_model.stats()["requests"]
    assert own["path"] == "/v1/embeddings"
    assert own["authorized_by"] == "Bearer openai-key"
    assert own["body"] == {
        "model": "text-embedding-3-small", "input": ["One.", "Two."], "encoding_format": "base64",
    }  # fmt: skip
    assert large["body"]["dimensions"] == 1024


async def test_a_model_of_ones_own_is_not_asked_for_dimensions(
    open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    embeddings = await open_embedder("openai", "own", 384).embed(["[[script dimensions=384 lists=1]] One."])
    assert len(embeddings.vectors[0]) == 384
    assert "dimensions" not in scripted_model.stats()["requests"][0]["body"]


async def test_gemini_is_told_what_a_text_is_for(
    open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    embedder = open_embedder("google_genai")
    document = (await embedder.embed(["The harbour."])).vectors[0]
    query = (await embedder.embed(["The harbour."], EmbeddingPurpose.QUERY)).vectors[0]
    assert document != query
    first, second = scripted_model.stats()["requests"]
    assert first["path"].endswith("/models/gemini-embedding-001:batchEmbedContents")
    assert first["authorized_by"] == "google-key"
    tasks = [exchange["body"]["requests"][0]["taskType"] for exchange in (first, second)]
    assert tasks == ["RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"]
    assert first["body"]["requests"][0]["outputDimensionality"] == 3072


@pytest.mark.parametrize(("provider", "batch"), [("openai", 256), ("google_genai", 100)])
async def test_many_texts_go_in_batches(
    provider: str, batch: int, open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    embedder = open_embedder(provider, None, 768)
    embeddings = await embedder.embed([f"text {number}" for number in range(batch + 1)])
    assert len(embeddings.vectors) == batch + 1
    assert embeddings.vectors[0] != embeddings.vectors[-1]
    assert scripted_model.stats()["total"] == 2


async def test_long_texts_make_small_batches(open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer) -> None:
    await open_embedder("openai").embed(["word " * 3000] * 20)
    bodies = [exchange["body"] for exchange in scripted_model.stats()["requests"]]
    assert len(bodies) == 2
    assert all(sum(map(len, body["input"])) <= 200_000 for body in bodies)


@BOTH
async def test_no_texts_are_no_call(
    provider: str, open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    assert (await open_embedder(provider).embed([])).vectors == []
    assert scripted_model.stats()["total"] == 0


@BOTH
@pytest.mark.parametrize(
    ("directive", "problem"),
    [
        ("status=401", EmbedderRejected),
        ("status=403", EmbedderRejected),
        ("status=400", EmbedderRejected),
        ("status=404", EmbedderRejected),
        ("status=429", EmbedderRateLimited),
        ("status=500", EmbedderUnavailable),
        ("status=503", EmbedderUnavailable),
        ("status=504", EmbedderTimeout),
        ("silent=1", EmbedderTimeout),
        ("drop_after=0", EmbedderUnavailable),
        ("garbage=1", EmbedderUnavailable),
        ("missing=1", EmbedderUnavailable),
        ("dimensions=12", EmbedderRejected),
        ("zero=1", EmbedderRejected),
    ],
)
async def test_each_failure_has_its_problem(
    provider: str, directive: str, problem: type[EmbedderProblem], open_embedder: OpenEmbedder
) -> None:
    with pytest.raises(problem) as raised:
        await open_embedder(provider, None, 768, 0.5 if directive == "silent=1" else 30).embed(
            ["One.", f"[[script {directive}]] a secret text"]
        )
    assert "secret" not in raised.value.detail
    assert raised.value.retry_after is not None


@BOTH
@pytest.mark.parametrize("directive", ["status=503", "status=429 retry_after=1", "drop_after=0", "silent=1"])
async def test_what_passes_is_tried_again(
    provider: str, directive: str, open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    text = f"[[script {directive} times=1]] The harbour."
    embeddings = await open_embedder(provider, None, 768, 5 if directive == "silent=1" else 30).embed([text])
    assert len(embeddings.vectors) == 1
    assert scripted_model.stats()["total"] == 2


async def test_no_credit_is_nothing_to_wait_for(
    open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    with pytest.raises(EmbedderRejected, match="no credit"):
        await open_embedder("openai").embed(["[[script status=429 code=insufficient_quota]]"])
    assert scripted_model.stats()["total"] == 1


@BOTH
async def test_a_long_text_is_cut_and_an_empty_one_is_embedded(
    provider: str, open_embedder: OpenEmbedder, scripted_model: ScriptedModelServer
) -> None:
    embedder = open_embedder(provider)
    assert len((await embedder.embed(["word " * 100_000, ""])).vectors) == 2
    sent = str(scripted_model.stats()["requests"])
    assert len(sent) < 50_000
    assert await embedder.count_tokens(["word", "word " * 100]) == [1, 125]
