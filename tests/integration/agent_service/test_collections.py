"""Documents are put, read, replaced and deleted over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.factories.passages import JSON, Library, events_in

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
HARBOUR = ["The harbour closes at ten.", "Bicycles are for rent."]


async def state(library: Library, collection: UUID = COLLECTION) -> dict[str, Any]:
    answer = await library.client.get(f"/v1/collections/{collection}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def delete(library: Library, document: UUID, version: int | None = None) -> int:
    params = {} if version is None else {"version": version}
    answer = await library.client.delete(f"/v1/collections/{COLLECTION}/documents/{document}", params=params)
    return answer.status_code


async def test_a_document_is_found_once_it_is_indexed(library: Library) -> None:
    document = uuid4()
    events = await library.put(COLLECTION, document, HARBOUR)
    assert [event["type"] for event in events] == ["progress", "progress", "indexed"]
    assert events[0] == {"type": "progress", "done": 0, "total": 2}
    assert events[1] == {"type": "progress", "done": 2, "total": 2}
    assert events[2] == {
        "type": "indexed", "document_id": str(document), "version": 1, "chunk_count": 2, "embedded": 2,
    }  # fmt: skip
    for mode in ("hybrid", "dense", "text"):
        found = await library.search(COLLECTION, "when does the harbour close", mode=mode)
        assert found[0]["text"] == "The harbour closes at ten.", mode
        assert found[0]["document_id"] == str(document)
        assert found[0]["collection_id"] == str(COLLECTION)
        assert found[0]["document_name"] == "a.md"
        assert (found[0]["heading"], found[0]["position"]) == ("Part 0", 0)
        assert 0 < found[0]["score"] <= 1
    assert await state(library) == {
        "collection_id": str(COLLECTION), "document_count": 1, "chunk_count": 2,
        "embedding_model": "local:hashing:384",
    }  # fmt: skip


async def test_one_answer_for_those_who_ask_for_json(library: Library) -> None:
    answer = await library.try_put(COLLECTION, uuid4(), HARBOUR, headers=JSON)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["chunk_count"] == 2


async def test_a_newer_version_takes_the_place_of_the_older(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR)
    events = await library.put(COLLECTION, document, ["The museum opens at nine.", HARBOUR[1]], version=2)
    assert events[-1]["embedded"] == 1, "the second text is known"
    assert await library.search(COLLECTION, "harbour", mode="text") == []
    assert [found["text"] for found in await library.search(COLLECTION, "museum", mode="text")] == [
        "The museum opens at nine."
    ]
    assert (await state(library))["chunk_count"] == 2


async def test_the_same_version_again_changes_nothing(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR)
    before = await library.search(COLLECTION, "harbour")
    events = await library.put(COLLECTION, document, HARBOUR)
    assert events == [{**events[-1], "embedded": 0}]
    assert await library.search(COLLECTION, "harbour") == before


async def test_the_same_version_with_another_text_replaces(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR)
    await library.put(COLLECTION, document, ["The museum opens at nine."])
    assert await library.search(COLLECTION, "harbour", mode="text") == []
    assert (await state(library))["chunk_count"] == 1


async def test_the_same_version_with_the_same_texts_on_other_pages_replaces(library: Library) -> None:
    document = uuid4()
    url = f"/v1/collections/{COLLECTION}/documents/{document}"
    for page in (1, 7):
        block = {"text": HARBOUR[0], "page": page}
        answer = await library.client.put(url, json={"name": "a", "version": 1, "blocks": [block]}, headers=JSON)
        assert answer.json()["embedded"] == (1 if page == 1 else 0)
    assert [passage["page"] for passage in await library.search(COLLECTION, "harbour")] == [7]


async def test_an_older_version_is_refused(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR, version=3)
    answer = await library.try_put(COLLECTION, document, ["Old."], version=2)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale-version")
    assert await delete(library, document, 2) == 409
    assert (await library.search(COLLECTION, "harbour"))[0]["text"] == HARBOUR[0]


async def test_a_deleted_document_stays_deleted(library: Library) -> None:
    document, other = uuid4(), uuid4()
    await library.put(COLLECTION, document, HARBOUR, version=2)
    await library.put(COLLECTION, other, ["The harbour master lives here."])
    assert await delete(library, document, 2) == 204
    assert await delete(library, document, 2) == 204
    assert [found["document_id"] for found in await library.search(COLLECTION, "harbour")] == [str(other)]
    assert (await state(library))["document_count"] == 1
    for version in (1, 2):
        answer = await library.try_put(COLLECTION, document, HARBOUR, version=version)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale-version")
    await library.put(COLLECTION, document, HARBOUR, version=3)
    assert (await state(library))["document_count"] == 2


async def test_a_delete_before_the_put_wins(library: Library) -> None:
    document = uuid4()
    assert await delete(library, document, 1) == 204
    answer = await library.try_put(COLLECTION, document, HARBOUR)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale-version")


async def test_deleting_without_a_version_takes_whatever_is_there(library: Library) -> None:
    document = uuid4()
    assert await delete(library, document) == 204
    await library.put(COLLECTION, document, HARBOUR, version=7)
    assert await delete(library, document) == 204
    assert await library.search(COLLECTION, "harbour") == []
    assert (await library.try_put(COLLECTION, document, HARBOUR, version=7)).status_code == 409


async def test_a_deleted_collection_takes_nothing_more(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR)
    url = f"/v1/collections/{COLLECTION}"
    assert (await library.client.delete(url)).status_code == 204
    assert (await library.client.delete(url)).status_code == 204
    assert await library.search(COLLECTION, "harbour") == []
    assert (await library.client.get(url)).json()["code"] == "collection-not-found"
    assert (await library.client.get(f"{url}/documents/{document}/chunks")).json()["code"] == "document-not-found"
    answer = await library.try_put(COLLECTION, document, HARBOUR, version=2)
    assert (answer.status_code, answer.json()["code"]) == (409, "collection-deleted")
    assert await delete(library, document, 1) == 204


async def test_passages_are_read_page_by_page(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, [f"Passage number {number}." for number in range(7)])
    url = f"/v1/collections/{COLLECTION}/documents/{document}/chunks"
    read: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await library.client.get(url, params={"limit": 3, **cursor})).json()
        read += page["items"]
        cursor = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert [chunk["position"] for chunk in read] == list(range(7))
    text = "\n\n".join(f"Passage number {number}." for number in range(7))
    assert [text[chunk["start"] : chunk["end"]] for chunk in read] == [chunk["text"] for chunk in read]
    for bad in ("x", "-1", "1.5", "9" * 10):
        assert (await library.client.get(url, params={"cursor": bad})).status_code == 422


async def test_a_document_without_text_is_a_document_without_passages(library: Library) -> None:
    document = uuid4()
    assert (await library.put(COLLECTION, document, []))[-1]["chunk_count"] == 0
    assert await library.search(COLLECTION, "anything") == []
    assert (await state(library))["document_count"] == 1
    page = await library.client.get(f"/v1/collections/{COLLECTION}/documents/{document}/chunks")
    assert page.json() == {"items": [], "next_cursor": None}


async def test_words_of_any_kind_and_length_are_taken(library: Library) -> None:
    texts = ["x" * 5000, "ß ﬀ İ 🙂 \u200b \ufeff", "a\\b {1:2}/3 ' \" %s $1 :x", "'" * 3000, "word " * 3000]
    events = await library.put(COLLECTION, uuid4(), texts)
    assert events[-1]["chunk_count"] >= 5
    for query in texts:
        for mode in ("hybrid", "dense", "text"):
            await library.search(COLLECTION, query[:9000], mode=mode)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_embedder_that_fails_changes_nothing(library: Library, accept: str) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, HARBOUR)
    library.embedder.fails_after = 0
    answer = await library.try_put(COLLECTION, document, ["New."], version=2, headers={"Accept": accept})
    problem = answer.json() if accept == "application/json" else events_in(answer.text)[-1]["problem"]
    assert problem["code"] == "embedder-unavailable"
    if accept == "application/json":
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    else:
        assert events_in(answer.text)[-1]["retry_after"] == 5
    assert (await library.search(COLLECTION, "harbour", mode="text"))[0]["text"] == HARBOUR[0]
