"""The index belongs to one embedding model at a time, and changes to another without ever mixing the two."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import respx

from agent_service.adapters.chat_api_keys import PATH
from agent_service.adapters.pg_embedding_models import PgEmbeddingModels
from agent_service.adapters.pg_pool import IndexPool
from agent_service.application.regenerate import Regeneration
from agent_service.domain.embedding_problems import EmbedderUnavailable
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings
from tests.factories.passages import JSON, Library, open_library
from tests.fakes.embedder import HashingEmbedder
from tests.stores import Database

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
OLD, NEW = "local:hashing:384", "openai:other:768"
URL = "/v1/embeddings/regenerate"

OpenLibrary = Callable[[HashingEmbedder], AbstractAsyncContextManager[Library]]


class Fails(HashingEmbedder):
    """Goes away after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__("openai:other", 768)
        self._left = calls

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        if not self._left:
            raise EmbedderUnavailable
        self._left -= 1
        return await super().embed(texts, purpose)


class Slow(HashingEmbedder):
    """Says when it has been called, and waits to be let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        self.called.set()
        await self.go_on.wait()
        return await super().embed(texts, purpose)


def old() -> HashingEmbedder:
    return HashingEmbedder()


def new() -> HashingEmbedder:
    return HashingEmbedder("openai:other", 768)


@pytest.fixture
def open_(clean_database: Database, tmp_path: Path) -> OpenLibrary:
    def make(embedder: HashingEmbedder) -> AbstractAsyncContextManager[Library]:
        return open_library(
            clean_database.agent_url,
            embedder=embedder,
            data_dir=tmp_path,
            default_provider="openai",
            api_url="http://chat-api.test",
        )

    return make


@pytest.fixture
async def models(clean_database: Database) -> AsyncIterator[PgEmbeddingModels]:
    pool = IndexPool(clean_database.agent_url, size=8)
    yield PgEmbeddingModels(pool)
    await pool.aclose()


@pytest.fixture
async def owner(clean_database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(Database.dsn(clean_database.owner_url))
    yield connection
    await connection.close()


def batches_of(
    models: PgEmbeddingModels,
    embedder: HashingEmbedder,
    batch: int,
    batches: int = 1,
    begins_after: bytes | None = b"",
) -> Regeneration:
    """Steps that end after so many batches of so many texts, by a clock that ticks when it is read."""
    ticks = itertools.count()
    return Regeneration(
        models,
        embedder,
        batch_texts=batch,
        step_seconds=batches + 0.5,
        clock=lambda: float(next(ticks)),
        begins_after=begins_after,
    )


def sentences(count: int, word: str = "harbour") -> list[str]:
    return [f"The {word} has a part with the number n{number} of its own." for number in range(count)]


async def vectors(owner: asyncpg.Connection) -> dict[str, int]:
    rows = await owner.fetch(
        "SELECT m.name, count(*) AS n FROM agent.chunk_vectors v JOIN agent.embedding_models m ON m.id = v.model_id "
        "WHERE v.dimensions = m.dimensions AND public.vector_dims(v.embedding) = m.dimensions GROUP BY 1"
    )
    return {row["name"]: row["n"] for row in rows}


async def refused(library: Library, **request: Any) -> dict[str, Any]:
    body = {"collections": [str(COLLECTION)], "query": "the harbour n1", **request}
    answer = await library.client.post("/v1/collections/search", json=body)
    assert answer.status_code == 409, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == "embedding-model-changed"
    return problem


async def finish(library: Library) -> list[dict[str, Any]]:
    """Steps until there is nothing more to do."""
    steps: list[dict[str, Any]] = []
    while not steps or steps[-1]["done"] < steps[-1]["total"]:
        answer = await library.client.post(URL)
        assert answer.status_code == 200, answer.text
        steps.append(answer.json())
    return steps


async def test_another_model_is_refused_until_everything_is_embedded_again(
    open_: OpenLibrary, owner: asyncpg.Connection
) -> None:
    document = uuid4()
    async with open_(old()) as before:
        await before.put(COLLECTION, document, sentences(20))
    async with open_(new()) as library:
        for mode in ("dense", "hybrid"):
            problem = await refused(library, mode=mode)
            assert OLD in problem["detail"]
            assert NEW in problem["detail"]
            assert "colloquy embeddings regenerate" in problem["detail"]
        assert (await library.search(COLLECTION, "part n7", mode="text"))[0]["position"] == 7
        put = await library.try_put(COLLECTION, uuid4(), sentences(2), headers=JSON)
        assert (put.status_code, put.json()["code"]) == (409, "embedding-model-changed")

        steps = await finish(library)

        assert steps[-1] == {"done": 20, "total": 20, "embedding_model": NEW}
        assert await vectors(owner) == {NEW: 20}
        assert (await library.search(COLLECTION, "part n7", mode="dense"))[0]["position"] == 7
        assert (await library.search(COLLECTION, "part n7", mode="hybrid"))[0]["position"] == 7
        await library.put(COLLECTION, uuid4(), sentences(2, "bridge"))
    async with open_(old()) as library:
        assert NEW in (await refused(library, mode="dense"))["detail"]


async def test_half_way_only_words_are_searched_whatever_is_configured(
    open_: OpenLibrary, models: PgEmbeddingModels, owner: asyncpg.Connection
) -> None:
    async with open_(old()) as before, open_(new()) as after:
        await before.put(COLLECTION, uuid4(), sentences(12))
        step = await batches_of(models, after.embedder, batch=5).step()
        assert (step.done, step.total) == (5, 12)
        assert await vectors(owner) == {NEW: 5, OLD: 7}
        for library in (before, after):
            for mode in ("dense", "hybrid"):
                await refused(library, mode=mode)
            assert len(await library.search(COLLECTION, "harbour", mode="text", top_k=100)) == 12
        assert (await before.try_put(COLLECTION, uuid4(), sentences(1), headers=JSON)).status_code == 409
        # The configured model may store meanwhile.
        await after.put(COLLECTION, uuid4(), sentences(3, "bridge"))

        # The way back is the same way.
        before.embedder.embedded.clear()
        assert (await finish(before))[-1] == {"done": 15, "total": 15, "embedding_model": OLD}
        assert await vectors(owner) == {OLD: 15}
        assert len(before.embedder.embedded) == 8, "what was still the old model's needs no embedding"
        assert len(await before.search(COLLECTION, "harbour", mode="dense", top_k=100)) == 15
        await refused(after, mode="dense")


async def test_it_goes_on_where_it_was_killed(
    open_: OpenLibrary, models: PgEmbeddingModels, owner: asyncpg.Connection
) -> None:
    async with open_(old()) as before:
        await before.put(COLLECTION, uuid4(), sentences(30))
    done, embedded = [0], []
    while done[-1] < 30:
        embedder = new()
        # Each step by a process that knows nothing of the one before.
        step = await batches_of(models, embedder, batch=7).step()
        done.append(step.done)
        embedded += embedder.embedded
    assert done == [0, 7, 14, 21, 28, 30]
    assert len(embedded) == len(set(embedded)) == 30
    assert await vectors(owner) == {NEW: 30}
    current = await models.current()
    assert current is not None
    assert current.complete


async def test_a_text_that_stands_in_many_documents_is_embedded_once(
    open_: OpenLibrary, models: PgEmbeddingModels
) -> None:
    async with open_(old()) as before:
        for _ in range(3):
            await before.put(uuid4(), uuid4(), sentences(4))
    embedder = new()
    step = await batches_of(models, embedder, batch=10, batches=3).step()
    assert (step.done, step.total) == (12, 12)
    assert len(embedder.embedded) == 4


async def test_two_at_once_and_puts_and_deletes_beside_them(
    open_: OpenLibrary, models: PgEmbeddingModels, owner: asyncpg.Connection
) -> None:
    documents = [uuid4() for _ in range(6)]
    async with open_(old()) as before:
        for number, document in enumerate(documents):
            await before.put(COLLECTION, document, sentences(15, f"place{number}"))
    first, second = (batches_of(models, new(), batch=4, batches=2, begins_after=None) for _ in range(2))

    async def all_of(regeneration: Regeneration) -> None:
        while (step := await regeneration.step()).done < step.total:
            pass

    async with open_(new()) as after:
        await first.step()

        async def change(document: UUID) -> None:
            await after.put(COLLECTION, document, sentences(15, "elsewhere"), version=2)
            deleted = await after.client.delete(
                f"/v1/collections/{COLLECTION}/documents/{document}", params={"version": 3}
            )
            assert deleted.status_code == 204
            await after.put(COLLECTION, uuid4(), sentences(5, f"new{document}"))

        await asyncio.gather(all_of(first), all_of(second), *map(change, documents[:3]))
        assert await vectors(owner) == {NEW: 60}
        assert len(await after.search(COLLECTION, "place4 n3", mode="dense", top_k=100)) == 60
        assert (await after.search(COLLECTION, "place4 n3", mode="hybrid"))[0]["position"] == 3
        assert await owner.fetchval("SELECT complete FROM agent.index_state")


async def test_a_put_that_began_before_the_change_stores_nothing_of_the_old_model(
    open_: OpenLibrary, owner: asyncpg.Connection
) -> None:
    async with open_(old()) as before:
        await before.put(COLLECTION, uuid4(), sentences(3))
    slow = Slow()
    async with open_(slow) as late, open_(new()) as after:
        put = asyncio.create_task(late.try_put(COLLECTION, uuid4(), sentences(3, "late")))
        await slow.called.wait()
        await finish(after)
        slow.go_on.set()
        assert '"embedding-model-changed"' in (await put).text
        assert await vectors(owner) == {NEW: 3}


async def test_what_was_embedded_before_a_failure_stays(
    open_: OpenLibrary, models: PgEmbeddingModels, owner: asyncpg.Connection
) -> None:
    async with open_(old()) as before:
        await before.put(COLLECTION, uuid4(), sentences(10))
    with pytest.raises(EmbedderUnavailable):
        await batches_of(models, Fails(2), batch=3, batches=9).step()
    assert await vectors(owner) == {NEW: 6, OLD: 4}


async def test_over_http_a_failure_is_a_problem(open_: OpenLibrary) -> None:
    async with open_(old()) as before:
        await before.put(COLLECTION, uuid4(), sentences(1))
    async with open_(Fails(0)) as library:
        answer = await library.client.post(URL)
    assert (answer.status_code, answer.json()["code"]) == (503, "embedder-unavailable")
    assert "Retry-After" in answer.headers


async def test_two_who_want_different_models_do_not_both_get_theirs(
    open_: OpenLibrary, models: PgEmbeddingModels
) -> None:
    async with open_(old()) as before:
        await before.put(COLLECTION, uuid4(), sentences(4))
    other = batches_of(models, HashingEmbedder("google_genai:third", 512), batch=2)

    class Overtaken(HashingEmbedder):
        async def embed(
            self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT
        ) -> Embeddings:
            await other.step()
            return await super().embed(texts, purpose)

    step = await batches_of(models, Overtaken("openai:other", 768), batch=10).step()
    assert step.done < step.total
    current = await models.current()
    assert current is not None
    assert (current.name, current.complete) == ("google_genai:third:512", False)


async def test_an_index_without_vectors_is_any_models(open_: OpenLibrary, owner: asyncpg.Connection) -> None:
    async with open_(old()) as library:
        document = uuid4()
        assert await finish(library) == [{"done": 0, "total": 0, "embedding_model": OLD}]
        await library.put(COLLECTION, document, sentences(2))
        deleted = await library.client.delete(f"/v1/collections/{COLLECTION}/documents/{document}?version=2")
        assert deleted.status_code == 204
    async with open_(new()) as library:
        await library.put(COLLECTION, uuid4(), sentences(2))
        assert len(await library.search(COLLECTION, "harbour", mode="dense")) == 2
        assert await vectors(owner) == {NEW: 2}
    assert await owner.fetchval("SELECT count(*) FROM agent.embedding_models") == 2


async def test_nothing_to_do_is_done_at_once(open_: OpenLibrary) -> None:
    async with open_(old()) as library:
        await library.put(COLLECTION, uuid4(), sentences(5))
        library.embedder.embedded.clear()
        assert await finish(library) == [{"done": 5, "total": 5, "embedding_model": OLD}]
        assert library.embedder.embedded == []


@respx.mock(assert_all_called=False)
async def test_people_may_not_change_the_model(respx_mock: respx.MockRouter, open_: OpenLibrary) -> None:
    owner = {"active": True, "user_id": str(uuid4()), "scopes": ["agent:invoke"]}
    respx_mock.post(f"http://chat-api.test{PATH}").mock(return_value=httpx.Response(200, json=owner))
    async with open_(old()) as library:
        answer = await library.client.post(URL, headers={"Authorization": "Bearer cq_secret"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_without_a_database_there_is_no_index(tmp_path: Path) -> None:
    async with open_library("", data_dir=tmp_path, default_provider="openai") as library:
        answer = await library.client.post(URL)
    assert (answer.status_code, answer.json()["code"]) == (503, "index-unavailable")
