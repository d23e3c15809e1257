"""What holds while several put, delete and search at once, and when one of them is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from agent_service.application.index_document import SLICE
from agent_service.domain.bm25 import DRIFT
from tests.factories.passages import Library, open_library, open_owner
from tests.stores import Database

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")

RECOUNT = """
    SELECT count(*) AS chunks, coalesce(sum(length), 0) AS length,
        (SELECT count(*) FROM agent.documents d WHERE d.collection_id = $1 AND d.deleted_at IS NULL) AS documents,
        (SELECT count(*) FROM agent.chunk_vectors v WHERE v.collection_id = $1) AS vectors,
        (SELECT count(*) FROM agent.chunks c WHERE c.collection_id = $1) AS stored
    FROM agent.chunk_terms t WHERE t.collection_id = $1
"""
COUNTED = "SELECT chunk_count, total_length, document_count FROM agent.collections WHERE id = $1"
WRONG_TERMS = """
    SELECT coalesce(a.term_key, b.term_key) FROM
        (SELECT term_key, chunk_count FROM agent.terms WHERE collection_id = $1) AS a
    FULL JOIN
        (SELECT unnest(term_keys) AS term_key, count(*) AS chunk_count FROM agent.chunk_terms
            WHERE collection_id = $1 GROUP BY 1) AS b
    ON a.term_key = b.term_key
    WHERE a.chunk_count IS DISTINCT FROM b.chunk_count
"""


@pytest.fixture
async def owner(clean_database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with open_owner(clean_database.owner_url) as connection:
        yield connection


async def assert_counts_are_right(owner: asyncpg.Connection, collection: UUID = COLLECTION) -> None:
    real = await owner.fetchrow(RECOUNT, collection)
    counted = await owner.fetchrow(COUNTED, collection)
    assert (counted["chunk_count"], counted["total_length"], counted["document_count"]) == (
        real["chunks"], real["length"], real["documents"],
    )  # fmt: skip
    assert real["chunks"] == real["vectors"] == real["stored"]
    assert await owner.fetch(WRONG_TERMS, collection) == []


def texts(word: str, count: int) -> list[str]:
    return [f"{word} sentence {number} of a document about {word} and number{number % 7}." for number in range(count)]


async def test_counts_are_exact_after_puts_and_deletes_at_once(library: Library, owner: asyncpg.Connection) -> None:
    documents = [uuid4() for _ in range(8)]

    async def work(number: int, document: UUID) -> None:
        for version in (1, 2, 3):
            await library.put(
                COLLECTION, document, texts(f"word{number}x{version}", 5 + number * version), version=version
            )
        if number % 3 == 0:
            url = f"/v1/collections/{COLLECTION}/documents/{document}"
            assert (await library.client.delete(url, params={"version": 4})).status_code == 204

    await asyncio.gather(*(work(number, document) for number, document in enumerate(documents)))
    await assert_counts_are_right(owner)
    assert (await owner.fetchval("SELECT count(*) FROM agent.documents WHERE deleted_at IS NULL")) == 5


async def test_the_same_document_put_by_many_at_once_is_one_of_them(
    library: Library, owner: asyncpg.Connection
) -> None:
    document = uuid4()
    answers = await asyncio.gather(
        *(
            library.try_put(COLLECTION, document, texts(f"edition{version}", 3 + version), version=version)
            for version in range(1, 9)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 409}
    await assert_counts_are_right(owner)
    stored = await owner.fetchrow("SELECT version, chunk_count FROM agent.documents")
    assert (stored["version"], stored["chunk_count"]) == (8, 11)


async def test_a_search_sees_the_old_version_whole_or_the_new_one(library: Library) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, texts("edition1", 6))
    is_over = False

    async def put_again_and_again() -> None:
        nonlocal is_over
        for version in range(2, 30):
            await library.put(COLLECTION, document, texts(f"edition{version}", 6), version=version)
        is_over = True

    async def look(mode: str) -> int:
        looked = 0
        while not is_over:
            found = await library.search(COLLECTION, "a sentence of the document", mode=mode, top_k=20)
            editions = {passage["text"].split()[0] for passage in found}
            assert len(editions) == 1, editions
            assert sorted(passage["position"] for passage in found) == list(range(6)), mode
            looked += 1
        return looked

    looking = [asyncio.create_task(look(mode)) for mode in ("hybrid", "dense", "text")]
    await put_again_and_again()
    assert min(await asyncio.gather(*looking)) > 5


async def test_the_same_text_is_embedded_once(library: Library) -> None:
    first, second = texts("shared", 4), texts("shared", 4)
    await library.put(COLLECTION, uuid4(), first)
    assert len(library.embedder.embedded) == 4
    events = await library.put(uuid4(), uuid4(), second)
    assert events[-1]["embedded"] == 0
    assert events[0] == {"type": "progress", "done": 4, "total": 4}
    await library.put(COLLECTION, uuid4(), ["the very same", *second])
    assert len(library.embedder.embedded) == 9, "its passages stand under other headings"


async def test_a_text_that_comes_twice_in_a_document_is_embedded_once(library: Library) -> None:
    heading = {"heading": "Again"}
    body = {"name": "a", "version": 1, "blocks": [{"text": text, **heading} for text in ("x " * 200, "x " * 200)]}
    answer = await library.client.put(f"/v1/collections/{COLLECTION}/documents/{uuid4()}", json=body)
    assert '"indexed"' in answer.text
    assert len(library.embedder.embedded) == len(set(library.embedder.embedded))
    found = await library.search(COLLECTION, "x", mode="text")
    assert [passage["position"] for passage in found] == list(range(len(found)))
    assert len(found) == 2


async def test_a_put_that_was_cut_goes_on_from_there(library: Library, owner: asyncpg.Connection) -> None:
    document = uuid4()
    library.embedder.fails_after = 2 * SLICE
    answer = await library.try_put(COLLECTION, document, texts("long", 3 * SLICE))
    assert '"embedder-unavailable"' in answer.text
    assert await library.search(COLLECTION, "long") == []
    library.embedder.fails_after = None
    events = await library.put(COLLECTION, document, texts("long", 3 * SLICE))
    assert events[0] == {"type": "progress", "done": 2 * SLICE, "total": 3 * SLICE}
    assert events[-1]["embedded"] == SLICE
    assert len(library.embedder.embedded) == 3 * SLICE
    assert await owner.fetchval("SELECT count(*) FROM agent.embedded_texts") == 0
    await assert_counts_are_right(owner)


async def test_the_known_text_of_a_document_that_goes_away_is_embedded_again(
    library: Library, owner: asyncpg.Connection
) -> None:
    """Between the look at what is known and the publishing, the only document that knew the text is deleted."""
    first, second = uuid4(), uuid4()
    await library.put(COLLECTION, first, texts("gone", 3))
    lock = await owner.fetchrow("SELECT id FROM agent.documents")
    assert lock is not None
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("SELECT FROM agent.index_state FOR UPDATE")  # publishing waits here
    putting = asyncio.create_task(library.put(COLLECTION, second, texts("gone", 3)))
    await asyncio.sleep(0.3)
    await owner.execute("DELETE FROM agent.chunk_vectors WHERE document_id = $1", first)
    await transaction.commit()
    events = await putting
    assert events[-1] == {**events[-1], "chunk_count": 3, "embedded": 3}


async def test_tenants_never_see_each_others_passages(clean_database: Database) -> None:
    collections = [uuid4() for _ in range(20)]
    async with open_library(clean_database.agent_url, default_provider="openai") as library:
        for collection in collections:
            await library.put(collection, uuid4(), [f"Secret {collection.hex} of all tenants {n}." for n in range(3)])
        for collection in collections:
            for mode in ("hybrid", "dense", "text"):
                found = await library.search(collection, f"secret of all tenants {collections[0].hex}", mode=mode)
                assert len(found) == 3
                assert all(collection.hex in passage["text"] for passage in found)
                assert {passage["collection_id"] for passage in found} == {str(collection)}
        both = await library.search(*collections[:2], "secret tenants", top_k=100)
        assert {passage["collection_id"] for passage in both} == {str(each) for each in collections[:2]}


async def test_documents_that_are_being_deleted_are_left_out(library: Library) -> None:
    kept, doomed = uuid4(), uuid4()
    await library.put(COLLECTION, kept, ["The harbour closes at ten."])
    await library.put(COLLECTION, doomed, ["The harbour opens at six."])
    for mode in ("hybrid", "dense", "text"):
        found = await library.search(COLLECTION, "harbour", mode=mode, exclude_documents=[str(doomed)])
        assert [passage["document_id"] for passage in found] == [str(kept)], mode


async def test_closing_the_connection_stops_the_put(library: Library, owner: asyncpg.Connection) -> None:
    library.embedder.pause = 0.05
    put = asyncio.create_task(library.try_put(COLLECTION, uuid4(), texts("slow", 10 * SLICE)))
    while not library.embedder.embedded:
        await asyncio.sleep(0.01)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    embedded = len(library.embedder.embedded)
    await asyncio.sleep(0.3)
    assert len(library.embedder.embedded) == embedded < 10 * SLICE
    assert await owner.fetchval("SELECT count(*) FROM agent.chunks") == 0


async def test_weights_are_made_anew_when_passages_become_longer(library: Library, owner: asyncpg.Connection) -> None:
    """Or BM25 would hold every passage for a long one for ever."""
    await library.put(COLLECTION, uuid4(), ["harbour short", "harbour brief"])
    first = await owner.fetchval("SELECT weighted_mean_length FROM agent.collections")
    for number in range(3):
        await library.put(COLLECTION, uuid4(), [f"harbour {' '.join(f'w{number}x{n}' for n in range(60))}"] * 2)
    row = await owner.fetchrow("SELECT weighted_mean_length, total_length, chunk_count FROM agent.collections")
    mean = row["total_length"] / row["chunk_count"]
    assert first < 10 < mean
    assert abs(row["weighted_mean_length"] - mean) <= DRIFT * row["weighted_mean_length"]
    wrong = await owner.fetch(
        """
        SELECT t.chunk_id FROM agent.chunk_terms t JOIN agent.collections c ON c.id = t.collection_id
        WHERE abs((t.weights <#> $1::sparsevec) + 2.2 / (1 + 1.2 * (0.25 + 0.75 * t.length / c.weighted_mean_length)))
            > 0.001
        """,
        await _place_of(owner, "harbour"),
    )
    assert wrong == []


async def _place_of(owner: asyncpg.Connection, lexeme: str) -> str:
    place = await owner.fetchval(
        "SELECT (hashtextextended($2, uuid_hash_extended($1, 0)) & 9223372036854775807) % 1000000000 + 1",
        COLLECTION,
        lexeme,
    )
    return f"{{{place}:1}}/1000000000"


async def test_first_documents_put_at_once_have_comparable_weights(library: Library, owner: asyncpg.Connection) -> None:
    """Each finds an empty collection and takes its own mean; whoever comes second adapts."""
    lengths = (2, 40, 100)
    await asyncio.gather(
        *(
            library.put(COLLECTION, uuid4(), [f"harbour {' '.join(f'w{n}' for n in range(count))}"] * 3)
            for count in lengths
        )
    )
    rows = await owner.fetch(
        """
        SELECT -(t.weights <#> $1::sparsevec) AS weight, t.length, c.weighted_mean_length AS mean
        FROM agent.chunk_terms t JOIN agent.collections c ON c.id = t.collection_id
        """,
        await _place_of(owner, "harbour"),
    )
    assert len(rows) == 9
    for row in rows:
        right = 2.2 / (1 + 1.2 * (0.25 + 0.75 * row["length"] / row["mean"]))
        assert row["weight"] == pytest.approx(right, rel=DRIFT)
