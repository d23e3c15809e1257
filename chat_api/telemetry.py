"""What this process says of itself to Prometheus, beside its requests, and what waits for whichever process is free."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Gauge
from redis.exceptions import RedisError

from chat_api.config import ApiSettings
from chat_api.kit.db import Database, is_store_down
from chat_api.kit.jobs import JobRunner
from chat_api.kit.redis import RedisClients
from chat_api.realtime.gateway import Gateway
from chat_api.runs.executor import RunExecutor

MOST_COUNTED = 10_000
"""Where counting ends: a backlog of this size is not told from a larger one, and never slow to look at."""
_LOOK_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 2.0

# Both parts are read from indexes that hold what waits and no more: the outbox as a whole, and the queued runs.
# A run behind another one of its session waits for that, and for nobody else.
_BACKLOG = f"""
SELECT 'job' AS kind, topic, count(*) AS found, count(*) FILTER (WHERE available_at <= now()) AS due,
    greatest(0, extract(epoch FROM now() - min(available_at)))::float8 AS seconds
FROM (SELECT topic, available_at FROM chat.outbox ORDER BY available_at, id LIMIT {MOST_COUNTED}) AS jobs
GROUP BY topic
UNION ALL
SELECT 'run', '', count(*), count(*) FILTER (WHERE NOT held),
    coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE NOT held)), 0)::float8
FROM (
    SELECT created_at, EXISTS (
        SELECT FROM chat.runs AS other
        WHERE other.session_id = queued.session_id AND other.status IN ('running', 'awaiting_approval')
    ) AS held
    FROM chat.runs AS queued WHERE status = 'queued' LIMIT {MOST_COUNTED}
) AS runs
"""  # noqa: S608 - a number of ours


class ProcessMetrics:
    """Gauges that are read when they are asked for, so they cost nothing between."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._connections = Gauge("db_connections_in_use", "Connections checked out of the pools", registry=registry)
        self._limit = Gauge("db_connections_limit", "Connections that the pools may make", registry=registry)
        self._runs = Gauge("runs_active", "Runs that this process answers now", registry=registry)
        self._runs_limit = Gauge("runs_active_limit", "Runs that this process answers at most", registry=registry)
        self._sockets = Gauge("sockets_open", "WebSockets of this process", registry=registry)
        self._rooms = Gauge("sessions_followed", "Sessions that sockets of this process follow", registry=registry)
        self._jobs = Gauge("jobs_running", "Jobs that this process does now", ("queue",), registry=registry)
        self._backlog: Backlog | None = None

    def watch(
        self, settings: ApiSettings, database: Database, redis: RedisClients | None, executor: RunExecutor
    ) -> None:
        self._connections.set_function(database.connections_in_use)
        self._limit.set(
            settings.db_pool_size
            + settings.db_max_overflow
            + settings.db_statement_pool_size
            + settings.db_event_pool_size
        )
        self._runs.set_function(lambda: executor.active_count)
        self._runs_limit.set(settings.max_concurrent_runs)
        self._backlog = Backlog(self._registry, database, redis)

    def watch_sockets(self, gateway: Gateway) -> None:
        self._sockets.set_function(lambda: gateway.socket_count)
        self._rooms.set_function(lambda: gateway.hub.room_count)

    def watch_jobs(self, runners: Mapping[str, JobRunner]) -> None:
        for queue, runner in runners.items():
            self._jobs.labels(queue).set_function(_running(runner))

    async def refresh(self) -> None:
        """Look at what no gauge can read by itself. Returns within `_LOOK_SECONDS`, whatever is away."""
        if self._backlog is not None:
            await self._backlog.look()


class Backlog:
    """What waits in PostgreSQL. Every process says the same of it: take the greatest, not the sum."""

    def __init__(
        self,
        registry: CollectorRegistry,
        database: Database,
        redis: RedisClients | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._redis = redis
        self._clock = clock
        self._looked_at: float | None = None
        self._jobs = Gauge("jobs_waiting", "Work in the outbox, also what is being done", ("topic",), registry=registry)
        self._due = Gauge("jobs_due", "Work that nobody does though it is due", ("topic",), registry=registry)
        self._late = Gauge("jobs_late_seconds", "How long the oldest of it has been due", ("topic",), registry=registry)
        self._runs = Gauge("runs_waiting", "Runs that nobody answers yet", registry=registry)
        self._free = Gauge("runs_due", "Those that wait for no other run of their session", registry=registry)
        self._age = Gauge("runs_late_seconds", "How long the oldest of those has waited", registry=registry)
        self._up = Gauge("dependency_up", "Whether a store answers this process", ("dependency",), registry=registry)

    async def look(self) -> None:
        """Read it anew, unless that was done a moment ago. What cannot be read is left out, not told as it was."""
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        await asyncio.gather(self._look_at_database(), self._look_at_redis())

    async def _look_at_database(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                rows = await self._database.fetch_rows(_BACKLOG)
        except Exception as error:
            if not is_store_down(error):
                raise
            rows = []
        self._up.labels("database").set(1 if rows else 0)
        for gauge in (self._jobs, self._due, self._late):
            gauge.clear()
        for gauge in (self._runs, self._free, self._age):
            gauge.set(math.nan)
        for row in rows:
            if row["kind"] == "run":
                self._runs.set(row["found"])
                self._free.set(row["due"])
                self._age.set(row["seconds"])
            else:
                self._jobs.labels(row["topic"]).set(row["found"])
                self._due.labels(row["topic"]).set(row["due"])
                self._late.labels(row["topic"]).set(row["seconds"])

    async def _look_at_redis(self) -> None:
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._redis.ping()
        except (RedisError, OSError):  # TimeoutError is an OSError
            self._up.labels("redis").set(0)
        else:
            self._up.labels("redis").set(1)


def _running(runner: JobRunner) -> Callable[[], float]:
    return lambda: runner.running_count
