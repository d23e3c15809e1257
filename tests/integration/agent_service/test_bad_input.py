"""Nothing that a caller can send is answered with a 5xx, or with anything but a problem document."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.factories.found import passage
from tests.factories.turns import turn

# The same id in every process of a test run, because it shows in the names of the tests.
GOOD = {**turn("hi"), "run_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"}


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return changed(messages=[{"role": "user", "content": content, **fields}])


CALL = {"id": "c1", "name": "look", "arguments": {}}
PASSAGE = passage("The harbour closes at ten.").model_dump(mode="json")
BAD_BODIES: list[Any] = [
    None,
    [],
    "text",
    {},
    {name: value for name, value in GOOD.items() if name != "run_id"},
    {name: value for name, value in GOOD.items() if name != "messages"},
    changed(run_id="not-a-uuid"),
    changed(run_id=5),
    changed(messages=[]),
    changed(messages="hi"),
    changed(messages=[{}]),
    changed(messages=[GOOD["messages"][0]] * 2001),
    changed(surprise=True),
    changed(tools=["no such name"]),
    changed(tools=["calculator"] * 65),
    changed(functions=[{"name": "no such name"}]),
    changed(functions=[{"name": "lamp", "parameters": {"deep": json.loads("[" * 20 + "]" * 20)}}]),
    changed(tool_choice="lamp"),
    changed(collections=["harbour"]),
    changed(collections=["0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"] * 21),
    changed(retrieval={"top_k": 0}),
    changed(decisions=[{"call_id": "c1", "decision": "perhaps"}]),
    changed(decisions=[{"call_id": "c1", "decision": decision} for decision in ("approve", "reject")]),
    changed(approval_mode="sometimes"),
    changed(ground="yes"),
    changed(spent_tokens=-1),
    changed(system_prompt="x" * 100_001),
    changed(system_prompt=5),
    changed(model="local"),
    changed(model={"provider": "nobody"}),
    changed(model={"name": ""}),
    changed(model={"temperature": 3}),
    changed(model={"temperature": "hot"}),
    changed(model={"temperature": False}),
    changed(model={"max_tokens": "5"}),
    changed(model={"max_tokens": 0}),
    changed(model={"max_tokens": 10**30}),
    changed(user={"id": "me"}),
    said(5),
    said("a\x00b"),
    said("hi", surprise=1),
    said("hi", name="x" * 65),
    changed(messages=[{"role": "tool", "content": "x"}]),
    changed(messages=[{"role": "assistant", "content": "x", "tool_call_id": "c1"}]),
    changed(messages=[{"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}]),
    changed(messages=[{"role": "assistant", "content": "", "tool_calls": []}]),
    changed(messages=[{"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "a b"}]}]),
    said("hi", tool_calls=[CALL]),
    said("hi", passages=[PASSAGE]),
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:60])
async def test_a_bad_turn_is_a_422(agent: httpx.AsyncClient, body: Any) -> None:
    response = await agent.post("/v1/chat", json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "validation-failed"
    assert problem["errors"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"run_id":',
        b"\xff\xfe",
        b'{"run_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        b"[" * 100_000,
        b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"model": {"temperature": NaN}}',
        b'{"model": {"temperature": 1e999}}',
        b"",
    ],
    ids=["cut off", "not utf-8", "lone surrogate", "deep", "deep and closed", "nan", "infinite", "empty"],
)
@pytest.mark.parametrize("path", ["/v1/chat", "/v1/embeddings"])
async def test_a_broken_body_is_a_4xx(agent: httpx.AsyncClient, raw: bytes, path: str) -> None:
    response = await agent.post(path, content=raw, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text


async def test_a_huge_body_is_a_413(agent: httpx.AsyncClient) -> None:
    response = await agent.post("/v1/chat", content=b" " * (48 * 1024 * 1024))
    assert response.status_code == 413
    assert response.json()["code"] == "payload-too-large"


async def test_a_long_conversation_is_fine(agent: httpx.AsyncClient) -> None:
    body = changed(messages=[{"role": "user", "content": "x" * 4_000}] * 1_000)
    response = await agent.post("/v1/chat", json=body, headers={"Accept": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat", 405), ("GET", "/v1/nothing", 404), ("GET", "/v1/%00", 400), ("POST", "/health/live", 405)],
)
async def test_wrong_addresses_are_problems(agent: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await agent.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_other_media_types_are_refused(agent: httpx.AsyncClient) -> None:
    response = await agent.post("/v1/chat", content=b"run_id=5", headers={"Content-Type": "text/plain"})
    assert 400 <= response.status_code < 500
