"""Search among many passages: what the graph finds of what there is, and what a search takes beside its embedding.

`python -m benchmarks.search`: 100,000 passages for the times, 200,000 for the graph, beside a tenant of 200.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from agent_service.adapters.pg_embedding_models import PgEmbeddingModels
from agent_service.adapters.pg_index import PgDocumentIndex
from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_search import PgPassageIndex
from agent_service.adapters.pg_vectors import register_vectors
from agent_service.application.search import DEPTH
from agent_service.ports.index import Collection, QueryVector
from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.load import percentile
from benchmarks.passages import Loader, Query, asked, embedded, sentences
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id
from shared.security import ServiceName, service_signer

TITLE = "Search: recall of the graph, strangers' passages, and time beside the embedding"
RECALL_GOAL = Goal(0.97, Better.HIGHER)
STRANGERS_GOAL = Goal(0.0, Better.LOWER)
TIME_GOAL = Goal(15.0, Better.LOWER)

_MODEL = "local:all-MiniLM-L6-v2:384"
_TENANT_PASSAGES = 20
_EXACT = """
    SELECT chunk_id FROM agent.chunk_vectors WHERE collection_id = $1
    ORDER BY embedding OPERATOR(public.<=>) $2 LIMIT 10
"""


@dataclass(frozen=True)
class _Size:
    """Passages of the large tenant when times are taken, vectors of it for recall, and queries."""

    passages: int = 100_000
    vectors: int = 200_000
    base: int = 3_000
    queries: int = 300
    tenants: int = 200


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    size = _Size(passages=600, vectors=1_000, base=60, queries=10, tenants=10) if plan.short else _Size()
    return asyncio.run(_measure(stack, stack.local_agent(), size))


async def _measure(stack: Stack, agent: Server, size: _Size) -> list[Figure]:
    texts, questions = sentences(size.base, "passages")
    base = await embedded(texts)
    queries = await asked(questions[: size.queries])
    pool = IndexPool(stack.urls.agent, size=4)
    try:
        model = await PgEmbeddingModels(pool).adopt(_MODEL, 384)
        async with _owner(stack) as owner:
            loader = Loader(PgDocumentIndex(pool, text_config="english"), owner, model.id, base)
            large, small = new_id(), new_id()
            tenants = [new_id() for _ in range(size.tenants)]
            graph = await loader.without_graph()
            await loader.load([large], size.passages, label="passages of the large tenant")
            await loader.load([small], 200, label="passages of the small tenant")
            await loader.load(tenants, _TENANT_PASSAGES, label="passages of many tenants")
            await loader.with_graph(graph)
            figures = [await _times(stack, agent, large, queries, size)]
            figures.append(await _strangers(stack, agent, owner, tenants, queries))
            graph = await loader.without_graph()
            await loader.load_vectors(large, size.vectors - size.passages)
            await loader.with_graph(graph)
            for name, tenant in (("large", large), ("small", small)):
                figures.append(await _recall(name, pool, owner, tenant, model.id, queries))
        return figures
    finally:
        await pool.aclose()


@asynccontextmanager
async def _owner(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        await register_vectors(connection)
        yield connection
    finally:
        await connection.close()


async def _recall(
    name: str, pool: IndexPool, owner: asyncpg.Connection, tenant: UUID, model_id: int, queries: Sequence[Query]
) -> Figure:
    """The first ten as a search would find them, against the first ten of all that are compared one by one."""
    index = PgPassageIndex(pool)
    [collection] = await index.collections([tenant])
    shares = []
    for query in queries:
        exact = {UUID(int=row["chunk_id"].int) for row in await owner.fetch(_EXACT, tenant, query.vector)}
        found = await _nearest(index, collection, QueryVector(model_id, query.vector))
        shares.append(len(exact & found) / len(exact))
    return Figure(
        f"recall@10, {collection.chunk_count:,} passages",
        f"{number(sum(shares) / len(shares))} over {len(shares)} queries ({name} tenant, worst {number(min(shares))})",
        judged=sum(shares) / len(shares),
        judged_as="recall",
        goal=RECALL_GOAL,
    )


async def _nearest(index: PgPassageIndex, collection: Collection, query: QueryVector) -> set[UUID]:
    return {hit.chunk_id for hit in (await index.by_vector(collection, query, limit=DEPTH))[:10]}


@asynccontextmanager
async def _client(stack: Stack, agent: Server) -> AsyncIterator[httpx.AsyncClient]:
    signer = service_signer(
        stack.credentials.service_key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE
    )
    headers = {"Authorization": f"Bearer {signer.mint(ServiceName.CHAT_API.value)}"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{agent.port}/v1", headers=headers, timeout=30, trust_env=False
    ) as client:
        yield client


async def _times(stack: Stack, agent: Server, tenant: UUID, queries: Sequence[Query], size: _Size) -> Figure:
    """Each query is embedded over HTTP, then searched for over HTTP: what the second takes more than the first."""
    added: list[float] = []
    embedding: list[float] = []
    async with _client(stack, agent) as client:
        for turn in range(2):  # the first warms up: model, connections, what PostgreSQL reads from its files
            for query in queries:
                _, alone = await _timed(client, "/embeddings", {"model": "local", "input": query.text})
                body = {"collections": [str(tenant)], "query": query.text, "top_k": 5}
                found, took = await _timed(client, "/collections/search", body)
                assert len(found["passages"]) == 5
                if turn:
                    embedding.append(alone)
                    added.append(took - alone)
    added.sort()
    embedding.sort()
    return Figure(
        f"hybrid search in {size.passages:,}",
        f"p50 {number(Samples(added).median)}, p95 {number(percentile(added, 0.95))} ms beside the embedding,"
        f" which takes p50 {number(Samples(embedding).median)}, p95 {number(percentile(embedding, 0.95))} ms",
        judged=percentile(added, 0.95),
        judged_as="p95 ms",
        goal=TIME_GOAL,
    )


async def _timed(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The answer, and how many milliseconds it took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    answer = await client.post(path, json=body)
    took = (loop.time() - started) * 1000
    answer.raise_for_status()
    read: dict[str, Any] = answer.json()
    return read, took


async def _strangers(
    stack: Stack, agent: Server, owner: asyncpg.Connection, tenants: Sequence[UUID], queries: Sequence[Query]
) -> Figure:
    """Every tenant asks something; whose passages are answered is looked up afterwards."""
    chosen = random.Random(11)
    rows = await owner.fetch("SELECT id, collection_id FROM agent.chunks WHERE collection_id = ANY($1)", list(tenants))
    owners = {str(row["id"]): str(row["collection_id"]) for row in rows}
    passages = strangers = 0
    async with _client(stack, agent) as client:
        for tenant in tenants:
            for mode in ("hybrid", "dense", "text"):
                body = {"collections": [str(tenant)], "query": chosen.choice(queries).text, "top_k": 50, "mode": mode}
                answer = await client.post("/collections/search", json=body)
                answer.raise_for_status()
                found = answer.json()["passages"]
                passages += len(found)
                strangers += sum(owners.get(passage["chunk_id"]) != str(tenant) for passage in found)
    return Figure(
        f"passages of others, {len(tenants)} tenants",
        f"{strangers} of {passages:,}",
        judged=float(strangers),
        judged_as="passages",
        goal=STRANGERS_GOAL,
    )


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, plan))


if __name__ == "__main__":
    main()
