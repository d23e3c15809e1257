"""arq carries the ids of what is due from the outbox to whichever worker is free. It knows nothing else.

Everything here may be lost or said twice: the outbox says again what is still due, and only a claim counts. So Redis
may be away, and a worker may be killed at any moment; arq's own idea of who runs what is never asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import orjson
from arq import func
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.worker import Worker
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from chat_api.config import ApiSettings
from chat_api.kit.db import is_store_down
from chat_api.kit.jobs import JobRunner
from chat_api.kit.outbox import Due, Jobs
from shared.logging import get_logger
from shared.settings import SettingsError

log = get_logger("queue")

_FUNCTION = "work"
_WINDOW = 200
"""Entries that are in the queue at once. More would only wait there instead of in PostgreSQL."""
_SAY_AGAIN_SECONDS = 5.0
"""What is still due after this long may have been lost by Redis, or by a worker that died before it claimed it."""
_ROUND_SECONDS = 5.0
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 1.0
_LONGEST_JOB_SECONDS = 3600
_FORGOTTEN_SECONDS = 86_400


def to_json(value: dict[str, Any]) -> bytes:
    """arq's serialiser: JSON instead of pickle, which would run whatever somebody put into Redis."""
    return orjson.dumps(value, default=str)


def queue_redis(settings: ApiSettings, queue_name: str) -> ArqRedis:
    """A client that has not connected yet, and whose owner closes it. Raises `SettingsError`.

    arq's own `create_pool` connects before it hands the client out: cancelled meanwhile, it leaves a connection
    behind that nobody can close.
    """
    if settings.redis_url is None:
        raise SettingsError("COLLOQUY_REDIS_URL is not set, and the worker's queue lives there.")
    pool = ConnectionPool.from_url(
        settings.redis_url.get_secret_value(), encoding="utf8", socket_connect_timeout=_CONNECT_SECONDS
    )
    return ArqRedis(pool, job_serializer=to_json, job_deserializer=orjson.loads, default_queue_name=queue_name)


def job_worker(settings: ApiSettings, queue_name: str, runner: JobRunner) -> Worker:
    """The arq worker that hands the ids of one queue to its runner."""

    async def work(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
        await runner.run(UUID(args[0]))

    return Worker(
        functions=[func(work, name=_FUNCTION)],
        redis_pool=queue_redis(settings, queue_name),
        job_serializer=to_json,
        job_deserializer=orjson.loads,
        keep_result=0,
        handle_signals=False,
        log_results=False,
        queue_name=queue_name,
        max_jobs=runner.slots,
        job_timeout=_LONGEST_JOB_SECONDS,
        poll_delay=_POLL_SECONDS,
    )


async def keep_working(make: Callable[[], Worker]) -> None:
    """Run an arq worker for ever. It gives up when Redis goes away, so it is made anew until Redis is back."""
    lost_at = -math.inf
    while True:
        worker = make()
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - arq lets whatever its connection raised through
            if time.monotonic() - lost_at > _SAY_AGAIN_SECONDS:
                log.warning("worker.queue_lost", queue=worker.queue_name, error=type(error).__name__)
            lost_at = time.monotonic()
        finally:
            await _close(worker)
        await asyncio.sleep(1)


async def _close(worker: Worker) -> None:
    redis = worker.pool
    # Apart, because what it raises includes the cancellation of its own jobs, which is not ours.
    closing = asyncio.create_task(worker.close())
    await asyncio.wait({closing}, timeout=2)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await _disconnect(redis)


async def _disconnect(redis: ArqRedis) -> None:
    with contextlib.suppress(RedisError, OSError):
        await redis.aclose(close_connection_pool=True)


class Relay:
    """Looks into the outbox every `job_poll_seconds` and puts what is due of some topics into one queue of arq's.

    Each worker has one for each queue. arq drops an id that it knows already, so it does not matter who says it
    first. Topics of a newer release are nobody's here: they wait for its workers.
    """

    def __init__(
        self,
        jobs: Jobs,
        settings: ApiSettings,
        queue_name: str,
        topics: Collection[str],
        *,
        say_again_seconds: float = _SAY_AGAIN_SECONDS,
    ) -> None:
        self._jobs = jobs
        self._queue_name = queue_name
        self._topics = topics
        self._say_again_seconds = say_again_seconds
        self._poll_seconds = settings.job_poll_seconds
        self._redis = queue_redis(settings, queue_name)
        self._said: dict[str, float] = {}
        self._is_cut_off = False

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._survive_a_round()
                await asyncio.sleep(self._poll_seconds)
        finally:
            await self.aclose()

    async def relay_once(self) -> None:
        """Raises what PostgreSQL and Redis raise."""
        due = await self._jobs.due(self._topics, _WINDOW)
        now = time.monotonic()
        names = {_arq_id(entry.id, entry.attempt): entry for entry in due}
        self._said = {name: said_at for name, said_at in self._said.items() if name in names}
        for name, entry in names.items():
            said_at = self._said.get(name)
            if said_at is None or now - said_at >= self._say_again_seconds:
                await self._say(name, entry, again=said_at is not None)
                self._said[name] = now

    async def aclose(self) -> None:
        """Drop what is known of Redis, connections too. The next round connects anew."""
        self._said.clear()
        await _disconnect(self._redis)

    async def _say(self, name: str, entry: Due, *, again: bool) -> None:
        redis = self._redis
        if entry.attempt and not again:
            # It is due once more, so whoever had it is gone, and arq would wait for them for an hour.
            await self._forget(redis, _arq_id(entry.id, entry.attempt - 1))
        if again and await redis.exists(in_progress_key_prefix + name):
            # Taken out of the queue, and not claimed in all this time: that worker died between the two.
            await self._forget(redis, name)
        await redis.enqueue_job(
            _FUNCTION,
            str(entry.id),
            _job_id=name,
            _queue_name=self._queue_name,
            _defer_until=entry.created_at,  # its place in the queue, also when it comes back
            _expires=_FORGOTTEN_SECONDS,
        )

    async def _forget(self, redis: ArqRedis, name: str) -> None:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self._queue_name, name)
            pipe.delete(job_key_prefix + name, in_progress_key_prefix + name, retry_key_prefix + name)
            await pipe.execute()

    async def _survive_a_round(self) -> None:
        try:
            async with asyncio.timeout(_ROUND_SECONDS):
                await self.relay_once()
        except Exception as error:
            # Everything that is due stays due.
            if not (isinstance(error, RedisError) or is_store_down(error)):
                log.exception("relay.failed")
            elif not self._is_cut_off:
                log.warning("relay.cut_off", error=type(error).__name__)
            self._is_cut_off = True
            await self.aclose()
        else:
            if self._is_cut_off:
                log.info("relay.back")
            self._is_cut_off = False


def _arq_id(entry_id: UUID, attempt: int) -> str:
    # With the attempt: arq drops an id that it believes to be running, and that belief outlives a killed worker.
    return f"{entry_id}:{attempt}"
