"""The reranker over HTTP, before a scripted server, and a search of the agent that uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from agent_service.adapters.http_reranker import HttpReranker
from agent_service.ports.reranker import RerankFailed
from tests.factories.passages import open_library
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
TEXTS = ["bicycles for rent", "the harbour closes at ten", "the harbour"]
OpenReranker = Callable[..., HttpReranker]


@pytest.fixture
async def open_reranker(scripted_model: ScriptedModelServer) -> AsyncIterator[OpenReranker]:
    scripted_model.forget()
    client = httpx.AsyncClient(timeout=60, trust_env=False, verify=False)  # noqa: S501 - of what has no TLS

    def open_(**changes: Any) -> HttpReranker:
        options = {"url": f"{scripted_model.url}/rerank", "model": "ranker", "api_key": "rank-key", "seconds": 30}
        return HttpReranker(client, **{**options, **changes})

    yield open_
    await client.aclose()


async def test_each_text_gets_its_score_in_its_place(
    open_reranker: OpenReranker, scripted_model: ScriptedModelServer
) -> None:
    assert await open_reranker().rerank("the harbour closes", TEXTS) == pytest.approx([0, 1, 2 / 3])
    (exchange,) = scripted_model.stats()["requests"]
    assert exchange["authorized_by"] == "Bearer rank-key"
    assert exchange["body"] == {
        "model": "ranker", "query": "the harbour closes", "documents": TEXTS, "top_n": 3, "return_documents": False,
    }  # fmt: skip


async def test_bare_outputs_become_scores_in_the_same_order(open_reranker: OpenReranker) -> None:
    scores = await open_reranker().rerank("[[script logits=1]] the harbour closes", TEXTS)
    assert all(0 < score < 1 for score in scores)
    assert scores[1] > scores[2] > scores[0]


async def test_a_text_that_was_left_out_is_the_least_relevant(open_reranker: OpenReranker) -> None:
    assert await open_reranker().rerank("[[script missing=1]] bicycles", TEXTS) == [0, 0, 0]


@pytest.mark.parametrize(
    "directive", ["status=401", "status=500", "silent=1", "drop_after=0", "garbage=1", "missing=3"]
)
async def test_every_failure_is_one(directive: str, open_reranker: OpenReranker) -> None:
    seconds = 0.3 if directive == "silent=1" else 30
    with pytest.raises(RerankFailed):
        await open_reranker(seconds=seconds).rerank(f"[[script {directive}]] bicycles", TEXTS)


async def test_nobody_there_is_a_failure(open_reranker: OpenReranker) -> None:
    with pytest.raises(RerankFailed):
        await open_reranker(url="http://127.0.0.1:9/rerank").rerank("bicycles", TEXTS)


async def test_a_search_is_reranked_and_goes_on_without(
    clean_database: Database, scripted_model: ScriptedModelServer, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "data_dir": tmp_path,
        "default_provider": "openai",
        "rerank_url": f"{scripted_model.url}/rerank",
        "rerank_seconds": 3,
    }
    async with open_library(clean_database.agent_url, **settings) as library:
        await library.put(COLLECTION, uuid4(), ["Ships and ships and ships.", "What ships leave at ten?"])
        found = await library.search(COLLECTION, "what ships leave", top_k=1)
        assert [(passage["position"], passage["score"]) for passage in found] == [(1, 1.0)]
        assert await library.search(COLLECTION, "what boats depart", min_score=0.5) == []
        unranked = await library.search(COLLECTION, "[[script silent=1]] ships", top_k=2)
        assert len(unranked) == 2
        metrics = (await library.client.get("/metrics")).text
        assert 'agent_reranks_total{outcome="done"} 2.0' in metrics
        assert 'agent_reranks_total{outcome="failed"} 1.0' in metrics
