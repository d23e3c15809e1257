"""The agent without its database: turns go on, and everything else says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.factories.passages import Library, blocks, open_library
from tests.fakes.scripted_model import ScriptedModelServer

URL = f"/v1/collections/{uuid4()}"
BODY = {"name": "a.md", "version": 1, "blocks": blocks("text")}
SEARCH = {"collections": [str(uuid4())], "query": "harbour"}
CALLS: list[tuple[str, str, Any]] = [
    ("PUT", f"{URL}/documents/{uuid4()}", BODY),
    ("DELETE", f"{URL}/documents/{uuid4()}?version=1", None),
    ("GET", f"{URL}/documents/{uuid4()}/chunks", None),
    ("POST", "/v1/collections/search", SEARCH),
    ("GET", URL, None),
    ("DELETE", URL, None),
]


@pytest.mark.parametrize("address", ["postgresql+asyncpg://nobody:x@127.0.0.1:1/none", None], ids=["down", "not set"])
async def test_without_the_database_the_index_is_unavailable_and_turns_go_on(
    address: str | None, scripted_model: ScriptedModelServer, tmp_path: Path
) -> None:
    async with open_library(
        address,
        data_dir=tmp_path,
        default_provider="openai",
        openai_api_key="key",
        openai_base_url=scripted_model.openai_url,
    ) as library:
        for method, path, body in CALLS:
            answer = await library.client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "index-unavailable"), (method, path)
            assert int(answer.headers["retry-after"]) >= 1
        await assert_turns_go_on(library)
        ready = await library.client.get("/health/ready")
        assert ready.status_code == 200
        assert "index" in ready.text


async def assert_turns_go_on(library: Library) -> None:
    turn = {"run_id": str(uuid4()), "messages": [{"role": "user", "content": "hi"}]}
    answer = await library.client.post("/v1/chat", json=turn, headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
