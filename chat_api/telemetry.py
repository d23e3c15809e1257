"""What this process says of itself to Prometheus, beside its requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from chat_api.kit.db import Database
from chat_api.runs.executor import RunExecutor


class ProcessMetrics:
    """Gauges that are read when they are asked for, so they cost nothing between."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge("db_connections_in_use", "Connections checked out of the pools", registry=registry)
        self._runs = Gauge("runs_active", "Runs that this process answers now", registry=registry)

    def watch(self, database: Database, executor: RunExecutor) -> None:
        self._connections.set_function(database.connections_in_use)
        self._runs.set_function(lambda: executor.active_count)
