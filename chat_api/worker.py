"""The worker: what is due later, and what died.

It does what the outbox holds, and answers runs whose process is gone as well as the API does, so one of them is
enough. Housekeeping is arq's: a cron job runs in one worker only, however many there are.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import uvloop
from arq import cron
from arq.worker import Worker

from chat_api.attachments import removal as attachments
from chat_api.auth import tickets
from chat_api.auth.refresh import RefreshTokens
from chat_api.bots.purge import PurgeBot
from chat_api.bots.service import BOT_PURGE
from chat_api.clients.agent import HttpAgent
from chat_api.clients.collections import Collections, HttpCollections
from chat_api.config import ApiSettings
from chat_api.documents.extraction.extractor import Extraction, Extractor
from chat_api.documents.indexing import IndexDocument
from chat_api.documents.intake import remove_orphans
from chat_api.documents.models import INDEX_TOPIC, PURGE_TOPIC
from chat_api.documents.purge import DocumentsOfBot, PurgeDocument
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database
from chat_api.kit.idempotency import forget_answers_before
from chat_api.kit.jobs import JobHandler, JobRunner
from chat_api.kit.outbox import Jobs
from chat_api.kit.queue import Relay, job_worker, keep_working, queue_redis, to_json
from chat_api.kit.redis import RedisClients
from chat_api.kit.scratch import remove_abandoned
from chat_api.kit.storage import Storage, open_storage
from chat_api.runs.engine import RunEngine
from chat_api.sessions.hints import SessionHints
from shared.logging import configure_logging, get_logger

log = get_logger("worker")

INDEXING_QUEUE = "colloquy:jobs"
PURGING_QUEUE = "colloquy:purges"
MAINTENANCE_QUEUE = "colloquy:maintenance"
_PURGES_AT_ONCE = 2
IDEMPOTENCY_KEPT = timedelta(hours=24)


async def forget_old_answers(ctx: dict[Any, Any]) -> int:
    """Delete stored answers of idempotent requests after 24 h."""
    database: Database = ctx["database"]
    clock: Clock = ctx["clock"]
    async with database.unit() as db:
        forgotten = await forget_answers_before(db, clock.now() - IDEMPOTENCY_KEPT)
    log.info("idempotency.forgotten", answers=forgotten)
    return forgotten


async def forget_expired_sign_ins(ctx: dict[Any, Any]) -> int:
    """Delete refresh token families that nobody can use any more."""
    database: Database = ctx["database"]
    settings: ApiSettings = ctx["settings"]
    async with database.unit() as db:
        tokens = RefreshTokens(db, ctx["clock"], lifetime=settings.refresh_token_lifetime)
        forgotten = await tokens.forget_expired()
    log.info("sign_ins.forgotten", families=forgotten)
    return forgotten


async def forget_expired_tickets(ctx: dict[Any, Any]) -> int:
    """Delete WebSocket tickets that nobody used in time."""
    forgotten = await tickets.forget_expired(ctx["database"], ctx["clock"])
    log.info("ws_tickets.forgotten", tickets=forgotten)
    return forgotten


async def remove_orphaned_bytes(ctx: dict[Any, Any]) -> int:
    """Delete stored bytes that no document has: of uploads that broke off between the storage and the commit."""
    removed = await remove_orphans(ctx["database"], ctx["storage"], ctx["clock"])
    log.info("documents.orphans_removed", objects=removed)
    return removed


async def remove_unnamed_attachments(ctx: dict[Any, Any]) -> int:
    """Remove the files that no message named for a day, and bytes of uploads that broke off."""
    database, storage, clock = ctx["database"], ctx["storage"], ctx["clock"]
    removed = await attachments.remove_unnamed(database, storage, clock)
    orphans = await attachments.remove_orphans(database, storage, clock)
    log.info("attachments.removed", attachments=removed, orphans=orphans)
    return removed + orphans


def job_runners(
    settings: ApiSettings,
    database: Database,
    storage: Storage,
    extraction: Extraction,
    collections: Collections,
) -> dict[str, JobRunner]:
    """Who does what the outbox holds, by queue. What somebody wants gone does not wait behind a thousand uploads."""
    jobs = Jobs(database)
    indexing = {INDEX_TOPIC: IndexDocument(database, storage, extraction, collections, settings)}
    purging: dict[str, JobHandler] = {
        PURGE_TOPIC: PurgeDocument(database, storage, collections),
        BOT_PURGE: PurgeBot(database, collections, DocumentsOfBot(database, storage)),
    }
    return {
        INDEXING_QUEUE: JobRunner(jobs, indexing, settings, slots=settings.max_concurrent_jobs),
        PURGING_QUEUE: JobRunner(jobs, purging, settings, slots=_PURGES_AT_ONCE),
    }


def maintenance_worker(settings: ApiSettings, context: dict[str, Any]) -> Worker:
    """arq with JSON instead of pickle, and no results kept: they are in PostgreSQL."""
    return Worker(
        cron_jobs=[
            cron(forget_old_answers, minute=17, second=0, unique=True),
            cron(remove_unnamed_attachments, minute=27, second=0, unique=True),
            cron(forget_expired_sign_ins, minute=37, second=0, unique=True),
            cron(forget_expired_tickets, minute=42, second=0, unique=True),
            cron(remove_orphaned_bytes, minute=47, second=0, unique=True),
        ],
        redis_pool=queue_redis(settings, MAINTENANCE_QUEUE),
        ctx=context,
        job_serializer=to_json,
        job_deserializer=orjson.loads,
        keep_result=0,
        handle_signals=False,
        log_results=False,
        queue_name=MAINTENANCE_QUEUE,
        health_check_key="colloquy:maintenance:health",
    )


async def _work(settings: ApiSettings) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await asyncio.to_thread(remove_abandoned)
    database = await Database.open(settings)
    redis = RedisClients.from_settings(settings)
    agent = HttpAgent(settings)
    collections = HttpCollections(settings)
    storage = open_storage(settings)
    extractor = Extractor(
        seconds=settings.extraction_seconds,
        memory_mb=settings.extraction_memory_mb,
        max_characters=settings.max_document_characters,
        # Two: one file that takes all the time it may should not hold up the next.
        children=2,
    )
    hints = SessionHints(None if redis is None else redis.commands)
    hints.start()
    engine = RunEngine(settings, database, redis, agent, hints, storage)
    engine.start()
    jobs = Jobs(database)
    runners = job_runners(settings, database, storage, extractor, collections)
    context = {"database": database, "settings": settings, "clock": SystemClock(), "storage": storage}
    loops = [asyncio.create_task(keep_working(partial(maintenance_worker, settings, context)))]
    for queue_name, runner in runners.items():
        loops.append(asyncio.create_task(keep_working(partial(job_worker, settings, queue_name, runner))))
        loops.append(asyncio.create_task(Relay(jobs, settings, queue_name, runner.topics).run()))
    log.info("worker.started")
    try:
        await stop.wait()
    finally:
        # Half of the time is for runs and jobs to end by themselves.
        seconds = settings.shutdown_seconds / 2
        await asyncio.gather(engine.close(), *(runner.stop(seconds) for runner in runners.values()))
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await extractor.aclose()
        await collections.close()
        await agent.close()
        await hints.close()
        if redis is not None:
            await redis.close()
        await database.close()
        log.info("worker.stopped")


def run(settings: ApiSettings) -> int:
    """Work until SIGTERM or SIGINT. Returns the exit code."""
    configure_logging(settings.log_level, service="worker")
    # arq tells of each job twice, and we once.
    logging.getLogger("arq").setLevel(logging.WARNING)
    queue_redis(settings, INDEXING_QUEUE)  # raises where there are none, before anything is opened
    uvloop.run(_work(settings))
    return 0
