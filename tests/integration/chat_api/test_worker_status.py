"""The worker's own small server: alive, its metrics, and nothing else."""

from __future__ import annotations

import signal

import httpx
import pytest

from chat_api.telemetry import ProcessMetrics
from chat_api.worker_status import WorkerStatus
from deploy.local.ports import free_port
from shared.settings import SettingsError
from shared.telemetry import new_registry


def status() -> WorkerStatus:
    registry = new_registry()
    return WorkerStatus(registry, ProcessMetrics(registry))


async def test_it_answers_until_it_is_stopped() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    server, port = status(), free_port()
    server.start("127.0.0.1", port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        alive = await client.get("/health/live")
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert alive.headers["cache-control"] == "no-store"
        assert "runs_active 0.0" in (await client.get("/metrics")).text
        assert (await client.get("/docs")).status_code == 404
        # They are the worker's, who has runs to end.
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
        await server.stop()
        with pytest.raises(httpx.TransportError):
            await client.get("/health/live")


async def test_a_taken_port_is_told_in_a_line() -> None:
    first, second, port = status(), status(), free_port()
    first.start("127.0.0.1", port)
    try:
        with pytest.raises(SettingsError, match=f"The worker cannot listen on 127.0.0.1:{port}"):
            second.start("127.0.0.1", port)
    finally:
        await first.stop()


async def test_one_that_was_never_started_can_be_stopped() -> None:
    await status().stop()
