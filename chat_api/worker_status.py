"""`/health/live` and `/metrics` of the worker, which serves nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chat_api.telemetry import ProcessMetrics
from shared.settings import SettingsError
from shared.telemetry import METRICS_CONTENT_TYPE, render
from shared.web.health import NO_CACHE

_BACKLOG = 16


class WorkerStatus:
    """Answers from the worker's own event loop: that it answers means that the loop turns."""

    def __init__(self, registry: CollectorRegistry, metrics: ProcessMetrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, host: str, port: int) -> None:
        """Raises `SettingsError` where it cannot listen there."""
        try:
            listening = socket.create_server((host, port), backlog=_BACKLOG)
        except OSError as error:
            raise SettingsError(f"The worker cannot listen on {host}:{port}: {error.strerror or error}.") from None
        routes = [Route("/health/live", self._live), Route("/metrics", self._tell)]
        self._server = _QuietServer(
            uvicorn.Config(
                Starlette(routes=routes),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await asyncio.wait({self._task})

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=NO_CACHE)

    async def _tell(self, _: Request) -> Response:
        await self._metrics.refresh()
        return Response(render(self._registry), media_type=METRICS_CONTENT_TYPE)


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The worker's signals are the worker's: it has runs and jobs to end first."""
        yield
