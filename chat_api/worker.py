"""The worker: what is due later, and what died.

It answers runs whose process is gone as well as the API does, so one of them is enough. Housekeeping is
arq's: a cron job runs in one worker only, however many there are.
"""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import Any

import orjson
import uvloop
from arq import cron
from arq.connections import RedisSettings
from arq.worker import Worker

from chat_api.auth.refresh import RefreshTokens
from chat_api.clients.agent import HttpAgent
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database
from chat_api.kit.idempotency import forget_answers_before
from chat_api.kit.redis import RedisClients
from chat_api.runs.engine import RunEngine
from shared.logging import configure_logging, get_logger
from shared.settings import SettingsError

log = get_logger("worker")

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


def _dumps(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, default=str)


def make_worker(settings: ApiSettings, context: dict[str, Any]) -> Worker:
    """arq with JSON instead of pickle, and no results kept: they are in PostgreSQL."""
    if settings.redis_url is None:
        raise SettingsError("COLLOQUY_REDIS_URL is not set, and the worker's queue lives there.")
    return Worker(
        cron_jobs=[
            cron(forget_old_answers, minute=17, second=0, unique=True),
            cron(forget_expired_sign_ins, minute=37, second=0, unique=True),
        ],
        redis_settings=RedisSettings.from_dsn(settings.redis_url.get_secret_value()),
        ctx=context,
        job_serializer=_dumps,
        job_deserializer=orjson.loads,
        keep_result=0,
        handle_signals=False,
        log_results=False,
        queue_name="colloquy:maintenance",
        health_check_key="colloquy:maintenance:health",
    )


async def _work(settings: ApiSettings) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    database = await Database.open(settings)
    redis = RedisClients.from_settings(settings)
    agent = HttpAgent(settings)
    engine = RunEngine(settings, database, redis, agent)
    engine.start()
    queue = asyncio.create_task(
        _keep_queue(settings, {"database": database, "settings": settings, "clock": SystemClock()})
    )
    log.info("worker.started")
    try:
        await stop.wait()
    finally:
        await engine.close()
        queue.cancel()
        await asyncio.gather(queue, return_exceptions=True)
        await agent.close()
        if redis is not None:
            await redis.close()
        await database.close()
        log.info("worker.stopped")


async def _keep_queue(settings: ApiSettings, context: dict[str, Any]) -> None:
    """Run arq for ever. It gives up when Redis goes away, so it is started again until Redis is back."""
    while True:
        worker = make_worker(settings, context)
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - arq lets whatever its connection raised through
            log.warning("worker.queue_lost", error=type(error).__name__)
        finally:
            await worker.close()
        await asyncio.sleep(1)


def run(settings: ApiSettings) -> int:
    """Work until SIGTERM or SIGINT. Returns the exit code."""
    configure_logging(settings.log_level, service="worker")
    if settings.redis_url is None:
        raise SettingsError("COLLOQUY_REDIS_URL is not set, and the worker's queue lives there.")
    uvloop.run(_work(settings))
    return 0
