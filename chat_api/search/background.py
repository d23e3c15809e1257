"""What the worker does for search, for as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chat_api.clients.embeddings import HttpTextEmbedder
from chat_api.config import ApiSettings
from chat_api.kit.db import Database, is_store_down
from chat_api.search.backlog import SearchBacklog
from chat_api.search.vectors import MessageVectors, keep_embedding
from shared.logging import get_logger

log = get_logger("search")

Step = Callable[[], Awaitable[bool]]

_PAUSE_SECONDS = 0.05
"""Between steps through the backlog, for everybody else."""
_WAIT_SECONDS = 30.0


class SearchUpkeep:
    """Indexes what was there before the index was, and embeds messages, unless that is switched off."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        self._embedder = HttpTextEmbedder(settings)
        self._vectors = MessageVectors(database, self._embedder)
        self._backlog = SearchBacklog(database)
        self._embeds = settings.message_embeddings
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        embed = keep_embedding(self._vectors) if self._embeds else self._until_done(self._stop_queueing)
        self._tasks = [asyncio.create_task(embed), asyncio.create_task(self._until_done(self._backlog.step))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._embeds:
            try:
                await self._vectors.release()
            except Exception as error:  # noqa: BLE001 - the lease runs out by itself
                log.info("vectors.not_released", error=type(error).__name__)
        await self._embedder.close()

    async def _stop_queueing(self) -> bool:
        await self._vectors.forget()
        return False

    async def _until_done(self, step: Step) -> None:
        while True:
            try:
                if not await step():
                    return
            except Exception as error:  # noqa: BLE001 - it is tried again for as long as the worker lives
                level = log.warning if is_store_down(error) else log.error
                level("search.upkeep_failed", error=type(error).__name__)
                await asyncio.sleep(_WAIT_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)
