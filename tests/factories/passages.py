"""The agent's collections over HTTP, before a real database and an embedder without a model."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from uuid_utils.compat import uuid7

import agent_service.main
from agent_service.adapters import pg_statements as sql
from agent_service.adapters.pg_vectors import register_vectors
from agent_service.adapters.wiring import assemble
from agent_service.config import AgentSettings
from agent_service.domain import bm25
from shared.security import ServiceName, service_signer
from shared.settings import DEVELOPMENT_SERVICE_KEY, Environment
from tests.fakes.embedder import HashingEmbedder

JSON = {"Accept": "application/json"}


def service_headers() -> dict[str, str]:
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    return {"Authorization": f"Bearer {signer.mint(ServiceName.CHAT_API.value)}"}


def blocks(*texts: str) -> list[dict[str, Any]]:
    """Each under a heading of its own, which makes it a passage of its own."""
    return [{"text": text, "heading": f"Part {number}"} for number, text in enumerate(texts)]


@dataclass
class Library:
    """What a service does with collections. Each method fails the test where the agent refuses."""

    client: httpx.AsyncClient
    embedder: HashingEmbedder

    async def put(
        self, collection: UUID, document: UUID, texts: Sequence[str], *, version: int = 1, name: str = "a.md"
    ) -> list[dict[str, Any]]:
        answer = await self.try_put(collection, document, texts, version=version, name=name)
        assert answer.status_code == 200, answer.text
        events = events_in(answer.text)
        assert events[-1]["type"] == "indexed", events[-1]
        return events

    async def try_put(
        self,
        collection: UUID,
        document: UUID,
        texts: Sequence[str],
        *,
        version: int = 1,
        name: str = "a.md",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        body = {"name": name, "version": version, "blocks": blocks(*texts)}
        url = f"/v1/collections/{collection}/documents/{document}"
        return await self.client.put(url, json=body, headers=headers)

    async def search(self, *collections: UUID | str, **request: Any) -> list[dict[str, Any]]:
        *ids, query = collections
        body = {"collections": [str(collection) for collection in ids], "query": query, **request}
        answer = await self.client.post("/v1/collections/search", json=body)
        assert answer.status_code == 200, answer.text
        passages: list[dict[str, Any]] = answer.json()["passages"]
        return passages


def events_in(text: str) -> list[dict[str, Any]]:
    """The data of each event of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@asynccontextmanager
async def open_library(
    database_url: str | None, *, embedder: HashingEmbedder | None = None, **overrides: Any
) -> AsyncGenerator[Library]:
    chosen = embedder or HashingEmbedder()
    settings = AgentSettings(_env_file=None, environment=Environment.TEST, agent_database_url=database_url, **overrides)
    app = agent_service.main.create_app(settings, lambda settings: assemble(settings, chosen))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://agent.test", headers=service_headers(), timeout=60
        ) as client:
            yield Library(client, chosen)


async def copy_passages(
    owner: asyncpg.Connection,
    collection: UUID,
    *,
    texts: Sequence[str],
    vectors: Sequence[Sequence[float]],
    model: str = "local:hashing:384",
    per_document: int = 100,
) -> list[UUID]:
    """Fill a collection by COPY, past the service: as the owner of the tables, in one transaction. The chunks' ids.

    What a put would have made is there afterwards, counts and weights included. With an index that belongs to no
    model yet, it becomes `model`'s.
    """
    mean = await owner.fetchval(sql.MEAN_LENGTH, "english", texts[:1000])
    chunks = [uuid7() for _ in texts]
    documents = [uuid7() for _ in range(0, len(texts), per_document)]
    of = [documents[number // per_document] for number in range(len(texts))]
    async with owner.transaction():
        model_id = await owner.fetchval(
            "INSERT INTO agent.embedding_models (name, dimensions) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
            model,
            len(vectors[0]),
        )
        await owner.execute(
            "INSERT INTO agent.index_state (model_id, complete) VALUES ($1, true) ON CONFLICT DO NOTHING", model_id
        )
        await owner.execute(sql.MAKE_COLLECTION, collection, None, "english")
        await owner.copy_records_to_table(
            "documents",
            schema_name="agent",
            columns=["collection_id", "id", "version", "name", "chunk_count"],
            records=[(collection, document, 1, "copied.txt", of.count(document)) for document in documents],
        )
        await owner.copy_records_to_table(
            "chunks",
            schema_name="agent",
            columns=["collection_id", "document_id", "id", "position", "text", "start_char", "end_char"],
            records=[
                (collection, of[number], chunks[number], number % per_document, text, 0, len(text))
                for number, text in enumerate(texts)
            ],
        )
        await owner.copy_records_to_table(
            "chunk_vectors",
            schema_name="agent",
            columns=["collection_id", "document_id", "chunk_id", "model_id", "dimensions", "text_hash", "embedding"],
            records=[
                (collection, of[number], chunks[number], model_id, len(vector), chunks[number].bytes * 2, vector)
                for number, vector in enumerate(vectors)
            ],
        )
        await owner.execute(sql.ADD_TERMS, collection, "english", mean, bm25.K1, bm25.B, chunks)
        await owner.execute(
            "INSERT INTO agent.terms SELECT collection_id, key, count(*)"
            " FROM agent.chunk_terms, unnest(term_keys) AS key WHERE collection_id = $1 GROUP BY 1, 2",
            collection,
        )
        await owner.execute(
            "UPDATE agent.collections SET document_count = $2, chunk_count = $3, weighted_mean_length = $4,"
            " total_length = (SELECT sum(length) FROM agent.chunk_terms WHERE collection_id = $1) WHERE id = $1",
            collection,
            len(documents),
            len(texts),
            mean,
        )
    return chunks


@asynccontextmanager
async def open_owner(owner_url: str) -> AsyncGenerator[asyncpg.Connection]:
    """The owner of the tables, who may copy."""
    connection = await asyncpg.connect(
        owner_url.replace("+asyncpg", "", 1), server_settings={"search_path": "agent, public"}
    )
    try:
        await register_vectors(connection)
        yield connection
    finally:
        await connection.close()
