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

from chat_api.analytics.folding import fold
from chat_api.analytics.recount import RECOUNT_TOPIC, RecountJob
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
from chat_api.plans.ledger import Ledger
from chat_api.plans.people import PlansOfPeople
from chat_api.privacy.erasure import ERASE_TOPIC, EraseAccount, RunCanceller
from chat_api.retention.service import Retention
from chat_api.runs.engine import RunEngine
from chat_api.runs.service import RunService
from chat_api.search.background import SearchUpkeep
from chat_api.sessions.hints import SessionHints
from chat_api.telemetry import ProcessMetrics
from chat_api.webhooks.deliver import DeliverWebhook, forget_deliveries
from chat_api.webhooks.fair_share import WebhookJobs
from chat_api.webhooks.models import DELIVER_TOPIC
from chat_api.webhooks.secrets import WebhookSecrets
from chat_api.webhooks.sender import GuardedSender, WebhookSender
from chat_api.worker_status import WorkerStatus
from shared.logging import configure_logging, get_logger
from shared.telemetry import new_registry

log = get_logger("worker")

INDEXING_QUEUE = "colloquy:jobs"
PURGING_QUEUE = "colloquy:purges"
WEBHOOK_QUEUE = "colloquy:webhooks"
ACCOUNT_QUEUE = "colloquy:accounts"
MAINTENANCE_QUEUE = "colloquy:maintenance"
_PURGES_AT_ONCE = 2
_FOLD_AT = set(range(0, 60, 5))
_LONGEST_TIDYING = timedelta(hours=2)
IDEMPOTENCY_KEPT = timedelta(hours=24)
USAGE_KEPT = timedelta(days=35)
"""Only today's is a quota; the rest is for whoever wonders about yesterday."""


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


async def forget_old_usage(ctx: dict[Any, Any]) -> int:
    """Delete what people used on days that nobody asks for any more."""
    forgotten = await Ledger(ctx["database"]).forget(keep_days=USAGE_KEPT.days)
    log.info("usage.forgotten", rows=forgotten)
    return forgotten


async def fold_analytics(ctx: dict[Any, Any]) -> int:
    """Add what changed just now to the figures by day. Readers need not wait for it: they add the rest themselves."""
    return await fold(ctx["database"])


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


async def forget_old_deliveries(ctx: dict[Any, Any]) -> int:
    """Delete the log of webhooks that ended 30 days ago."""
    forgotten = await forget_deliveries(ctx["database"], ctx["clock"])
    log.info("webhooks.forgotten", deliveries=forgotten)
    return forgotten


async def tidy_sessions(ctx: dict[Any, Any]) -> int:
    """Remove sessions that their owners' plans keep no longer; archive idle ones, where that is wanted."""
    settings: ApiSettings = ctx["settings"]
    retention = Retention(ctx["database"], ctx["hints"], settings, ctx["clock"])
    removed = await retention.remove_expired()
    if settings.archive_idle_days is None:
        return removed
    return removed + await retention.archive_idle(settings.archive_idle_days)


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
        RECOUNT_TOPIC: RecountJob(database),
    }
    return {
        INDEXING_QUEUE: JobRunner(jobs, indexing, settings, slots=settings.max_concurrent_jobs),
        PURGING_QUEUE: JobRunner(jobs, purging, settings, slots=_PURGES_AT_ONCE),
    }


def webhook_runner(settings: ApiSettings, database: Database, sender: WebhookSender, clock: Clock) -> JobRunner:
    """In a queue of its own: what waits for strangers' servers holds up nothing of ours."""
    deliver = DeliverWebhook(
        database,
        sender,
        WebhookSecrets(settings.secret_keys),
        clock,
        at_once=settings.max_concurrent_deliveries // 2,
    )
    return JobRunner(Jobs(database), {DELIVER_TOPIC: deliver}, settings, slots=settings.max_concurrent_deliveries)


def account_runner(
    settings: ApiSettings,
    database: Database,
    storage: Storage,
    collections: Collections,
    runs: RunCanceller,
    hints: SessionHints,
    clock: Clock,
) -> JobRunner:
    """In a queue of its own: an erasure looks at every session there is."""
    contents = DocumentsOfBot(database, storage)
    erase = EraseAccount(database, storage, collections, contents, runs, hints, clock)
    return JobRunner(Jobs(database), {ERASE_TOPIC: erase}, settings, slots=1)


def maintenance_worker(settings: ApiSettings, context: dict[str, Any]) -> Worker:
    """arq with JSON instead of pickle, and no results kept: they are in PostgreSQL."""
    return Worker(
        cron_jobs=[
            cron(fold_analytics, second=_FOLD_AT, unique=True),
            cron(forget_old_answers, minute=17, second=0, unique=True),
            cron(remove_unnamed_attachments, minute=27, second=0, unique=True),
            cron(forget_expired_sign_ins, minute=37, second=0, unique=True),
            cron(forget_expired_tickets, minute=42, second=0, unique=True),
            cron(forget_old_usage, hour=3, minute=7, second=0, unique=True),
            cron(remove_orphaned_bytes, minute=47, second=0, unique=True),
            cron(forget_old_deliveries, minute=52, second=0, unique=True),
            cron(tidy_sessions, hour=3, minute=7, second=0, unique=True, timeout=_LONGEST_TIDYING),
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
    registry = new_registry()
    metrics = ProcessMetrics(registry)
    status = WorkerStatus(registry, metrics)
    if settings.worker_port is not None:
        status.start(settings.worker_host, settings.worker_port)
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
    engine = RunEngine(settings, database, redis, agent, hints, storage, PlansOfPeople(database, settings))
    engine.start()
    runners = job_runners(settings, database, storage, extractor, collections)
    sender = GuardedSender(seconds=settings.webhook_seconds, internal_hosts=settings.webhook_internal_hosts)
    runners[WEBHOOK_QUEUE] = webhook_runner(settings, database, sender, SystemClock())
    runs = RunService(engine.repository, engine.executor, engine.streams, engine.sends, engine.quotas)
    runners[ACCOUNT_QUEUE] = account_runner(settings, database, storage, collections, runs, hints, SystemClock())
    jobs = dict.fromkeys(runners, Jobs(database)) | {WEBHOOK_QUEUE: WebhookJobs(database)}
    context = {"database": database, "settings": settings, "clock": SystemClock(), "storage": storage, "hints": hints}
    search = SearchUpkeep(settings, database)
    search.start()
    loops = [asyncio.create_task(keep_working(partial(maintenance_worker, settings, context)))]
    for queue_name, runner in runners.items():
        loops.append(asyncio.create_task(keep_working(partial(job_worker, settings, queue_name, runner))))
        loops.append(asyncio.create_task(Relay(jobs[queue_name], settings, queue_name, runner.topics).run()))
    metrics.watch(settings, database, redis, engine.executor)
    metrics.watch_jobs(runners)
    log.info("worker.started")
    try:
        await stop.wait()
    finally:
        # Half of the time is for runs and jobs to end by themselves.
        seconds = settings.shutdown_seconds / 2
        await asyncio.gather(engine.close(), *(runner.stop(seconds) for runner in runners.values()))
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, search.close(), return_exceptions=True)
        await extractor.aclose()
        await collections.close()
        await agent.close()
        await hints.close()
        if redis is not None:
            await redis.close()
        await database.close()
        await status.stop()
        log.info("worker.stopped")


def run(settings: ApiSettings) -> int:
    """Work until SIGTERM or SIGINT. Returns the exit code."""
    configure_logging(settings.log_level, service="worker")
    # arq tells of each job twice, and we once.
    logging.getLogger("arq").setLevel(logging.WARNING)
    queue_redis(settings, INDEXING_QUEUE)  # raises where there are none, before anything is opened
    uvloop.run(_work(settings))
    return 0
