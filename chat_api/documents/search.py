"""What the agent knows of a bot's documents: passages found and passages listed.

No connection to the database is held while the agent works. What it finds is checked again afterwards: a document
may have been deleted in between, and the agent is told of deletions only as fast as the network lets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from chat_api.bots.schemas import BotConfiguration
from chat_api.bots.service import BotService
from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.documents.models import Document
from chat_api.documents.repository import DocumentRepository
from chat_api.documents.schemas import BotSearch
from chat_api.documents.service import DocumentService
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.pagination import InvalidCursor
from shared.contracts.knowledge import MAX_COLLECTIONS, MAX_EXCLUDED, ChunkPage, SearchAnswer, SearchRequest
from shared.logging import get_logger

log = get_logger("documents")

_FORGET_SECONDS = 1.0
_BETWEEN_US = frozenset({401, 403})
"""The agent does not believe who we are: our caller's credential is not to blame."""
_INTERNAL = 500


class DocumentPassages:
    def __init__(self, database: Database, collections: Collections, clock: Clock) -> None:
        self._database = database
        self._collections = collections
        self._clock = clock

    async def search(self, bot_id: UUID, user_id: UUID, wanted: BotSearch) -> SearchAnswer:
        """Passages of a bot that the person may use. Raises `BotNotFound` and the agent's problems."""
        async with self._database.unit() as db:
            bot = await BotService(db, self._clock).visible(bot_id, user_id)
            excluded = await DocumentRepository(db).ids_being_deleted(bot_id, MAX_EXCLUDED)
        usual = BotConfiguration.model_validate(bot.configuration).retrieval
        request = SearchRequest(
            collections=[bot_id],
            query=wanted.query,
            mode=usual.mode if wanted.mode is None else wanted.mode,
            top_k=usual.top_k if wanted.top_k is None else wanted.top_k,
            min_score=usual.min_score if wanted.min_score is None else wanted.min_score,
            exclude_documents=[UUID(str(document_id)) for document_id in excluded],
        )
        with _agents_problems():
            found = await self._collections.search(request)
        async with self._database.unit() as db:
            await BotService(db, self._clock).visible(bot_id, user_id)
            live = await DocumentRepository(db).live_ids(bot_id, {passage.document_id for passage in found.passages})
        return SearchAnswer(passages=[passage for passage in found.passages if passage.document_id in live])

    async def search_known(self, user_id: UUID, query: str, *, top_k: int) -> SearchAnswer:
        """Passages of all bots that are the person's own or shared with them, up to `MAX_COLLECTIONS`.

        One search in all of them, because scores of several cannot be compared. Raises the agent's problems.
        """
        async with self._database.unit() as db:
            bot_ids = await BotService(db, self._clock).known_ids(user_id, limit=MAX_COLLECTIONS)
            documents = DocumentRepository(db)
            excluded = [
                found for bot_id in bot_ids for found in await documents.ids_being_deleted(bot_id, MAX_EXCLUDED)
            ]
        if not bot_ids:
            return SearchAnswer(passages=[])
        request = SearchRequest(
            collections=[UUID(str(bot_id)) for bot_id in bot_ids],
            query=query,
            top_k=top_k,
            exclude_documents=[UUID(str(document_id)) for document_id in excluded[:MAX_EXCLUDED]],
        )
        with _agents_problems():
            found = await self._collections.search(request)
        live: set[tuple[UUID, UUID]] = set()
        async with self._database.unit() as db:
            for bot_id in {passage.collection_id for passage in found.passages} & set(bot_ids):
                if await BotService(db, self._clock).is_visible(bot_id, user_id):
                    of_bot = {passage.document_id for passage in found.passages if passage.collection_id == bot_id}
                    live |= {(bot_id, known) for known in await DocumentRepository(db).live_ids(bot_id, of_bot)}
        return SearchAnswer(
            passages=[passage for passage in found.passages if (passage.collection_id, passage.document_id) in live]
        )

    async def chunks(self, document_id: UUID, user_id: UUID, *, limit: int, cursor: str | None) -> ChunkPage:
        """Passages of a document of a bot that the person may use.

        Raises `DocumentNotFound`, `InvalidCursor` and the agent's problems.
        """
        async with self._database.unit() as db:
            document = await DocumentService(db, self._clock).visible(document_id, user_id)
        with _agents_problems():
            page = await self._page(document, limit=limit, cursor=cursor)
        async with self._database.unit() as db:
            await DocumentService(db, self._clock).visible(document_id, user_id)
        return page

    async def _page(self, document: Document, *, limit: int, cursor: str | None) -> ChunkPage:
        try:
            return await self._collections.chunks(document.bot_id, document.id, limit=limit, cursor=cursor)
        except AgentRefused as refusal:
            # The cursor is all that is left for the agent to check, and only the agent knows its cursors.
            if cursor is not None and refusal.problem.status == InvalidCursor.status:
                raise InvalidCursor from None
            raise

    async def forget(self, document: Document) -> None:
        """Tell the agent at once that a document is deleted. It may fail: the purge job tells it again."""
        try:
            async with asyncio.timeout(_FORGET_SECONDS):
                await self._collections.delete_document(document.bot_id, document.id, version=document.version)
        except (AgentUnavailable, AgentBrokeOff, AgentRefused, TimeoutError) as error:
            log.info("document.forgotten_later", document_id=str(document.id), error=type(error).__name__)


@contextmanager
def _agents_problems() -> Iterator[None]:
    """The agent's own problems are the caller's to see, unless they are between the agent and us."""
    try:
        yield
    except AgentRefused as refusal:
        if refusal.problem.status in _BETWEEN_US or refusal.problem.status >= _INTERNAL:
            log.warning("agent.refused_us", status=refusal.problem.status, code=refusal.problem.code)
            raise AgentBrokeOff("The agent service did not accept the request.") from None
        raise
