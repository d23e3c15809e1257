"""What this process says of itself to Prometheus, beside its requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from chat_api.kit.db import Database
from chat_api.realtime.gateway import Gateway
from chat_api.runs.executor import RunExecutor


class ProcessMetrics:
    """Gauges that are read when they are asked for, so they cost nothing between."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge("db_connections_in_use", "Connections checked out of the pools", registry=registry)
        self._runs = Gauge("runs_active", "Runs that this process answers now", registry=registry)
        self._sockets = Gauge("sockets_open", "WebSockets of this process", registry=registry)
        self._rooms = Gauge("sessions_followed", "Sessions that sockets of this process follow", registry=registry)

    def watch(self, database: Database, executor: RunExecutor, gateway: Gateway) -> None:
        self._connections.set_function(database.connections_in_use)
        self._runs.set_function(lambda: executor.active_count)
        self._sockets.set_function(lambda: gateway.socket_count)
        self._rooms.set_function(lambda: gateway.hub.room_count)
