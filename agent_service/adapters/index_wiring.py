"""Puts together what keeps passages and finds them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from agent_service.adapters.embedder_wiring import assemble_reranker
from agent_service.adapters.http_reranker import HttpReranker
from agent_service.adapters.pg_embedding_models import PgEmbeddingModels
from agent_service.adapters.pg_index import PgDocumentIndex
from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_search import PgPassageIndex
from agent_service.application.collections import Collections
from agent_service.application.embedding_model import EmbeddingModelGuard
from agent_service.application.index_document import DocumentIndexer
from agent_service.application.regenerate import Regeneration
from agent_service.application.rerank import RerankedSearch, RerankMetrics
from agent_service.application.search import Searches
from agent_service.config import AgentSettings
from agent_service.domain.chunking import chunk
from agent_service.ports.embedder import Embedder
from agent_service.ports.passages import PassageSearch


@dataclass(frozen=True, slots=True)
class IndexParts:
    """`models` is which embedding models the index holds vectors of."""

    pool: IndexPool
    models: PgEmbeddingModels
    documents: DocumentIndexer
    searches: PassageSearch
    collections: Collections
    regeneration: Regeneration
    reranker: HttpReranker | None

    async def aclose(self) -> None:
        if self.reranker is not None:
            await self.reranker.aclose()
        await self.pool.aclose()


def assemble_index(settings: AgentSettings, embedder: Embedder, registry: CollectorRegistry) -> IndexParts:
    url = settings.agent_database_url
    pool = IndexPool(None if url is None else url.get_secret_value(), size=settings.agent_db_pool_size)
    models = PgEmbeddingModels(pool)
    guard = EmbeddingModelGuard(models, embedder)
    documents = PgDocumentIndex(
        pool, text_config=settings.text_search_config, publishers=settings.agent_db_pool_size // 2
    )
    passages = PgPassageIndex(pool)
    searches: PassageSearch = Searches(passages, embedder, guard)
    reranker = assemble_reranker(settings)
    if reranker is not None:
        searches = RerankedSearch(searches, reranker, RerankMetrics(registry))
    return IndexParts(
        pool=pool,
        models=models,
        documents=DocumentIndexer(documents, embedder, guard, chunk, max_tokens=settings.chunk_max_tokens),
        searches=searches,
        collections=Collections(documents, passages, models, configured_model=guard.configured),
        regeneration=Regeneration(models, embedder),
        reranker=reranker,
    )
