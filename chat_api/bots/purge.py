"""The job that removes what a deleted bot left behind: passages, documents, shares, its row."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from sqlalchemy import delete, select

from chat_api.bots.models import Bot
from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.kit.db import Database
from chat_api.kit.jobs import Postponed
from chat_api.kit.outbox import Job, LeaseLost, hold, settle
from shared.logging import get_logger

log = get_logger("bots")


class BotContents(Protocol):
    """What belongs to a bot and has to go before it. Removing what is gone already is no mistake."""

    async def remove(self, job: Job, bot_id: UUID) -> None:
        """Raises `Postponed` and `LeaseLost`."""
        ...


class PurgeBot:
    """Handles `bot.purge`. The passages go first: they are what could still be found."""

    limit = None

    def __init__(self, database: Database, collections: Collections, contents: BotContents) -> None:
        self._database = database
        self._collections = collections
        self._contents = contents

    async def run(self, job: Job) -> None:
        bot_id = job.subject_id
        if not await self._begin(job):
            return
        try:
            await self._collections.delete_collection(bot_id)
        except (AgentUnavailable, AgentBrokeOff, AgentRefused) as problem:
            raise Postponed(problem) from None
        await self._contents.remove(job, bot_id)
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            await db.execute(delete(Bot).where(Bot.id == bot_id, Bot.deleted_at.is_not(None)))
        log.info("bot.purged", bot_id=str(bot_id))

    async def _begin(self, job: Job) -> bool:
        """Whether there is something to remove. What nobody deleted is not ours to."""
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            query = select(Bot.id).where(Bot.id == job.subject_id, Bot.deleted_at.is_not(None))
            is_deleted = (await db.execute(query)).scalar_one_or_none() is not None
            if not is_deleted:
                await settle(db, job)
        return is_deleted
