"""Whose collections are whose, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from agent_service.adapters.chat_api_keys import PATH
from tests.factories.passages import Library, blocks, open_library
from tests.stores import Database

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
DOCUMENT = uuid4()
TEXTS = ["The harbour closes at ten."]
ANN, BOB = UUID(int=1), UUID(int=2)


def key(person: UUID) -> dict[str, str]:
    return {"Authorization": f"Bearer cq_{person}"}


@pytest.fixture(autouse=True)
def keys(respx_mock: respx.MockRouter) -> None:
    """The chat API, by which `cq_<id>` is the key of that person."""

    def introspect(request: httpx.Request) -> httpx.Response:
        person = request.content.decode().split("cq_")[1].split('"')[0]
        return httpx.Response(200, json={"active": True, "user_id": person, "scopes": ["agent:invoke"]})

    respx_mock.post(f"http://chat-api.test{PATH}").mock(side_effect=introspect)


@pytest.fixture
async def library(clean_database: Database, tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(
        clean_database.agent_url, data_dir=tmp_path, default_provider="openai", api_url="http://chat-api.test"
    ) as library:
        yield library


async def search(library: Library, headers: dict[str, str], *collections: UUID) -> httpx.Response:
    body = {"collections": [str(each) for each in collections], "query": "harbour"}
    return await library.client.post("/v1/collections/search", json=body, headers=headers)


async def test_a_person_sees_what_is_theirs(library: Library) -> None:
    assert (await library.try_put(COLLECTION, DOCUMENT, TEXTS, headers=key(ANN))).status_code == 200
    found = (await search(library, key(ANN), COLLECTION)).json()["passages"]
    assert [passage["text"] for passage in found] == TEXTS
    assert found[0]["collection_id"] == str(COLLECTION)
    state = (await library.client.get(f"/v1/collections/{COLLECTION}", headers=key(ANN))).json()
    assert (state["collection_id"], state["chunk_count"]) == (str(COLLECTION), 1)


async def test_nobody_else_sees_it(library: Library) -> None:
    await library.try_put(COLLECTION, DOCUMENT, TEXTS, headers=key(ANN))
    url = f"/v1/collections/{COLLECTION}"
    for path in (url, f"{url}/documents/{DOCUMENT}/chunks"):
        assert (await library.client.get(path, headers=key(BOB))).status_code == 404
    refused = await search(library, key(BOB), COLLECTION)
    assert (refused.status_code, refused.json()["code"]) == (404, "collection-not-found")
    assert (await search(library, {}, COLLECTION)).json() == {"passages": []}


async def test_whoever_is_first_does_not_get_what_others_put_later(library: Library) -> None:
    """The id of a public bot is known before its first document is indexed."""
    await library.try_put(COLLECTION, uuid4(), ["Ann was here first."], headers=key(ANN))
    await library.put(COLLECTION, DOCUMENT, TEXTS)
    assert [each["text"] for each in await library.search(COLLECTION, "harbour first")] == TEXTS
    found = (await search(library, key(ANN), COLLECTION)).json()["passages"]
    assert [passage["text"] for passage in found] == ["Ann was here first."]
    assert (await library.client.delete(f"/v1/collections/{COLLECTION}", headers=key(ANN))).status_code == 204
    assert (await library.client.delete(f"/v1/collections/{COLLECTION}", headers=key(BOB))).status_code == 204
    assert len(await library.search(COLLECTION, "harbour")) == 1


async def test_one_unknown_collection_is_enough_to_refuse_a_person(library: Library) -> None:
    await library.try_put(COLLECTION, DOCUMENT, TEXTS, headers=key(ANN))
    assert (await search(library, key(ANN), COLLECTION, uuid4())).status_code == 404
    assert (await search(library, {}, COLLECTION, uuid4())).json() == {"passages": []}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 2**53},
        {"version": "x"},
        {"name": ""},
        {"name": "x" * 256},
        {"blocks": None},
        {"blocks": [{"text": ""}]},
        {"blocks": [{"text": "x" * 200_001}]},
        {"blocks": [{"text": "a\x00b"}]},
        {"blocks": [{"text": "a", "page": 0}]},
        {"blocks": [{"text": "a", "page": 2**31}]},
        {"blocks": [{"text": "a", "heading": "x" * 301}]},
        {"blocks": [{"text": "a", "surprise": 1}]},
        {"surprise": 1},
    ],
    ids=str,
)
async def test_a_bad_document_is_a_422(library: Library, change: dict[str, Any]) -> None:
    body = {"name": "a.md", "version": 1, "blocks": blocks("text"), **change}
    answer = await library.client.put(f"/v1/collections/{COLLECTION}/documents/{DOCUMENT}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed"), answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"collections": []},
        {"collections": ["x"]},
        {"collections": [str(COLLECTION)] * 21},
        {"query": ""},
        {"query": "x" * 10_001},
        {"query": "a\x00b"},
        {"top_k": 0},
        {"top_k": 201},
        {"top_k": "5"},
        {"mode": "best"},
        {"min_score": 1.1},
        {"exclude_documents": ["x"]},
        {"surprise": 1},
    ],
    ids=str,
)
async def test_a_bad_search_is_a_422(library: Library, change: dict[str, Any]) -> None:
    body = {"collections": [str(COLLECTION)], "query": "harbour", **change}
    answer = await library.client.post("/v1/collections/search", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed"), answer.text
