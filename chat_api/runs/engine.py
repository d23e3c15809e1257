"""Everything that answers runs, put together: the API has one, and so has the worker."""

from __future__ import annotations

import asyncio

from chat_api.clients.agent import Agent
from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.redis import RedisClients
from chat_api.kit.storage import Storage
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.quotas import DayQuotas
from chat_api.runs.dialogue import Dialogue
from chat_api.runs.executor import RunExecutor
from chat_api.runs.images import AttachedFiles
from chat_api.runs.limits import SendLimit
from chat_api.runs.prices import PriceTable
from chat_api.runs.recovery import RunRecovery
from chat_api.runs.repository import RunRepository
from chat_api.runs.stream_log import NoStreamLog, RedisStreamLog
from chat_api.runs.streams import RunStreams
from chat_api.runs.tool_rounds import ToolRounds
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.related import RelatedContexts
from chat_api.tools.expiry import ApprovalExpiry


class RunEngine:
    """`start` it inside the event loop, `drain` it when the stop signal comes, `close` it last."""

    def __init__(
        self,
        settings: ApiSettings,
        database: Database,
        redis: RedisClients | None,
        agent: Agent,
        hints: SessionHints,
        storage: Storage,
        plans: PlansOfPeople,
    ) -> None:
        log = NoStreamLog() if redis is None else RedisStreamLog(redis.commands, redis.blocking)
        self._settings = settings
        self.repository = RunRepository(database, hints, PriceTable(settings.prices))
        self.streams = RunStreams(
            log,
            self.repository,
            keep_seconds=settings.run_stream_seconds,
            idle_seconds=settings.sse_keepalive_seconds,
        )
        files = AttachedFiles(database, storage, bytes_at_once=settings.run_image_bytes)
        related = RelatedContexts(database, messages=settings.related_messages)
        rounds = ToolRounds(
            database,
            hints,
            PriceTable(settings.prices),
            attempts=settings.tool_attempts,
            approval_seconds=settings.approval_seconds,
        )
        self.quotas = DayQuotas(database, plans)
        dialogue = Dialogue(agent, self.repository, rounds)
        self.executor = RunExecutor(self.repository, self.streams, related, files, dialogue, self.quotas, settings)
        self.sends = SendLimit(settings)
        self.recovery = RunRecovery(
            self.repository, self.streams, self.executor, ApprovalExpiry(database, hints), self.quotas, settings
        )
        self._draining: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.streams.start()
        self.recovery.start()

    def begin_drain(self) -> None:
        """Called from the signal handler: end the runs under way, then the streams that follow them."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        # Half of the time is for the runs; the other half is for their readers to hear the end.
        await self.executor.drain(self._settings.shutdown_seconds / 2)
        self.streams.stop_following()

    async def close(self) -> None:
        self.begin_drain()
        if self._draining is not None:
            await self._draining
        await self.recovery.stop()
        await self.streams.close()
