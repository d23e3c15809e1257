"""What `/health/*` answers, on both services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

from pydantic import BaseModel

CHECK_TIMEOUT_SECONDS = 5.0
NO_CACHE = {"Cache-Control": "no-store"}


class HealthStatus(StrEnum):
    OK = "ok"
    DOWN = "down"


class Liveness(BaseModel):
    """The process runs and its event loop turns."""

    status: HealthStatus


class DependencyHealth(BaseModel):
    status: HealthStatus
    latency_ms: float
    error: str | None


class Readiness(BaseModel):
    """`ok` when every dependency that is required answers. Those that are not only show."""

    status: HealthStatus
    dependencies: dict[str, DependencyHealth]


async def check(probe: Callable[[], Awaitable[None]]) -> DependencyHealth:
    """Run one probe, 5 s at most. Says the kind of error only: an error's text may hold an address."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await probe()
    except Exception as error:  # noqa: BLE001 - a probe may fail in any way; all of them mean "down"
        return DependencyHealth(status=HealthStatus.DOWN, latency_ms=_ms_since(started), error=type(error).__name__)
    return DependencyHealth(status=HealthStatus.OK, latency_ms=_ms_since(started), error=None)


async def readiness(
    required: Mapping[str, Callable[[], Awaitable[None]]],
    optional: Mapping[str, Callable[[], Awaitable[None]]],
) -> Readiness:
    probes = {**required, **optional}
    results = dict(zip(probes, await asyncio.gather(*(check(probe) for probe in probes.values())), strict=True))
    ok = all(results[name].status is HealthStatus.OK for name in required)
    return Readiness(status=HealthStatus.OK if ok else HealthStatus.DOWN, dependencies=results)


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
