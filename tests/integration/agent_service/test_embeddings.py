"""`POST /v1/embeddings` and `GET /v1/models` as OpenAI's clients use them, with the real local embedder and others."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import httpx
import pytest

from shared.problems import PROBLEM_JSON
from tests.integration.agent_service.conftest import OpenAgent

TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose by a quarter point."]


async def embed(agent: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await agent.post("/v1/embeddings", json={"model": "local", **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_similar_texts_are_close(agent: httpx.AsyncClient) -> None:
    answer = await embed(agent, input=TEXTS)
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    cat, kitten, rates = (item["embedding"] for item in answer["data"])
    assert len(cat) == 384
    assert math.isclose(cosine(cat, cat), 1, abs_tol=1e-5)
    assert cosine(cat, kitten) > 0.5
    assert cosine(cat, kitten) > cosine(cat, rates) + 0.3
    assert answer["model"] == "local:all-MiniLM-L6-v2"
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 20


async def test_the_company_of_a_text_makes_no_difference(agent: httpx.AsyncClient) -> None:
    alone = (await embed(agent, input=TEXTS[0]))["data"][0]["embedding"]
    company = [TEXTS[0], "word " * 400, *["other text"] * 9]
    together = (await embed(agent, input=company))["data"]
    assert len(together) == 11
    assert cosine(alone, together[0]["embedding"]) > 0.98


async def test_a_text_that_comes_twice_is_answered_twice(agent: httpx.AsyncClient) -> None:
    once = await embed(agent, input=[TEXTS[0], TEXTS[1]])
    twice = await embed(agent, input=[TEXTS[1], TEXTS[0], TEXTS[1]])
    assert [item["index"] for item in twice["data"]] == [0, 1, 2]
    assert twice["data"][0]["embedding"] == twice["data"][2]["embedding"] == once["data"][1]["embedding"]
    assert twice["usage"]["total_tokens"] > once["usage"]["total_tokens"]


async def test_base64_holds_the_same_floats(agent: httpx.AsyncClient) -> None:
    plain = (await embed(agent, input=TEXTS[0], encoding_format="float"))["data"][0]["embedding"]
    encoded = (await embed(agent, input=TEXTS[0], encoding_format="base64", model="local:all-MiniLM-L6-v2"))["data"]
    floats = struct.unpack("<384f", base64.b64decode(encoded[0]["embedding"]))
    assert list(floats) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "model"),
        ({"model": "local"}, 400, "input"),
        ({"model": "local", "input": ""}, 400, "input"),
        ({"model": "local", "input": []}, 400, "input"),
        ({"model": "local", "input": [""]}, 400, "input"),
        ({"model": "local", "input": [1, 2, 3]}, 400, "input"),
        ({"model": "local", "input": ["x"] * 2049}, 400, "input"),
        ({"model": "local", "input": "a\x00b"}, 400, None),
        ({"model": "local", "input": "x", "dimensions": 12}, 400, "dimensions"),
        ({"model": "local", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"model": "local", "input": "x", "surprise": 1}, 400, "surprise"),
        ({"model": "text-embedding-3-small", "input": "x"}, 404, "model"),
    ],
)
async def test_errors_take_openais_shape(
    agent: httpx.AsyncClient, body: dict[str, Any], status: int, param: str | None
) -> None:
    response = await agent.post("/v1/embeddings", json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions"])
async def test_what_no_route_answers_takes_openais_shape_at_its_doors_alone(
    agent: httpx.AsyncClient, path: str
) -> None:
    answer = await agent.delete(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method-not-allowed"
    huge = await agent.post(path, content=b" ", headers={"Content-Length": "999999999"})
    assert huge.json()["error"]["code"] == "payload-too-large"
    assert (await agent.delete("/v1/embeddings/regenerate")).headers["content-type"] == PROBLEM_JSON


async def test_nulls_are_as_good_as_nothing(agent: httpx.AsyncClient) -> None:
    answer = await embed(agent, input=TEXTS[0], encoding_format=None, dimensions=None, user=None)
    assert isinstance(answer["data"][0]["embedding"], list)


@pytest.mark.parametrize("model", ["local", "all-MiniLM-L6-v2", "local:all-MiniLM-L6-v2"])
async def test_the_model_goes_by_its_names(agent: httpx.AsyncClient, model: str) -> None:
    answer = await embed(agent, model=model, input="x", dimensions=384)
    assert answer["model"] == "local:all-MiniLM-L6-v2"


async def test_an_unknown_model_is_told_which_there_is(agent: httpx.AsyncClient) -> None:
    response = await agent.post("/v1/embeddings", json={"model": "openai", "input": "x"})
    message = response.json()["error"]["message"]
    assert "`local:all-MiniLM-L6-v2`" in message
    assert "384 dimensions" in message
    assert "254 tokens" in message


@pytest.mark.parametrize(
    ("provider", "dimensions", "name"),
    [
        ("openai", 1536, "openai:text-embedding-3-small"),
        ("google_genai", 768, "google_genai:gemini-embedding-001"),
    ],
)
async def test_the_configured_model_embeds(open_agent: OpenAgent, provider: str, dimensions: int, name: str) -> None:
    async with open_agent(embedding_provider=provider, embedding_dimensions=dimensions) as agent:
        answer = await embed(agent, model=name, input=TEXTS)
        assert answer["model"] == name
        for item in answer["data"]:
            assert len(item["embedding"]) == dimensions
            assert math.isclose(cosine(item["embedding"], item["embedding"]), 1, abs_tol=1e-5)
        assert name in [item["id"] for item in (await agent.get("/v1/models")).json()["data"]]
        embedding = (await agent.get("/v1/providers")).json()["embedding"]
        assert (embedding["model"], embedding["dimensions"]) == (name, dimensions)
        assert (await agent.post("/v1/embeddings", json={"model": "local", "input": "x"})).status_code == 404


@pytest.mark.parametrize(
    ("directive", "status", "code"),
    [
        ("status=429 retry_after=600", 429, "embedder-rate-limited"),
        ("status=401", 502, "embedder-rejected"),
        ("dimensions=12", 502, "embedder-rejected"),
    ],
)
async def test_a_provider_that_refuses_is_a_problem(
    open_agent: OpenAgent, directive: str, status: int, code: str
) -> None:
    async with open_agent(embedding_provider="openai") as agent:
        text = f"[[script {directive}]] a secret text"
        response = await agent.post("/v1/embeddings", json={"model": "openai", "input": text})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert int(response.headers["Retry-After"]) >= 10
    assert "secret" not in response.text


async def test_lists_what_is_configured(agent: httpx.AsyncClient) -> None:
    listed = (await agent.get("/v1/models")).json()
    names = [item["id"] for item in listed["data"]]
    assert "openai:gpt-4o-mini" in names
    assert "local:all-MiniLM-L6-v2" in names
    providers = (await agent.get("/v1/providers")).json()
    assert providers["default"] == "openai"
    assert providers["embedding"] == {"model": "local:all-MiniLM-L6-v2", "dimensions": 384, "max_tokens": 254}
    assert {item["provider"]: item["configured"] for item in providers["items"]} == {
        "google_genai": True,
        "openai": True,
        "local": True,
    }
