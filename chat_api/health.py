"""`/health/*` and `/metrics`: for whoever runs this."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from chat_api.auth.permissions import Public
from chat_api.kit.db import Database
from shared.problems import Problem
from shared.telemetry import METRICS_CONTENT_TYPE, render
from shared.web.health import NO_CACHE, HealthStatus, Liveness, Readiness, check, readiness
from shared.web.responses import problems

router = APIRouter(tags=["Health"], dependencies=[Public])


class DatabaseHealth(BaseModel):
    status: HealthStatus
    latency_ms: float
    database: str


class DatabaseDown(Problem):
    status = 503
    code = "database-down"
    title = "The database is down"
    detail = "PostgreSQL does not answer."
    retry_after = 1


@router.get("/health/live", summary="Is the process alive?")
async def get_liveness(response: Response) -> Liveness:
    """Asks nothing of anybody: an answer means that the event loop turns."""
    response.headers.update(NO_CACHE)
    return Liveness(status=HealthStatus.OK)


@router.get(
    "/health/ready",
    summary="Can it serve?",
    responses={503: {"model": Readiness, "description": "A dependency that is required is down."}},
)
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Each dependency with its latency. Only the database is required: without Redis streams degrade to
    snapshots, and without the agent messages are stored and their runs fail visibly."""
    state = request.app.state

    async def database() -> None:
        await state.database.ping()

    optional = {"agent": state.agent.ping}
    if state.redis is not None:
        optional["redis"] = state.redis.ping
    result = await readiness({"database": database}, optional)
    response.headers.update(NO_CACHE)
    if result.status is HealthStatus.DOWN:
        response.status_code = 503
    return result


@router.get("/health/db", summary="Does the database answer?", responses=problems(DatabaseDown))
async def get_database_health(request: Request, response: Response) -> DatabaseHealth:
    """One round trip to PostgreSQL, 5 s at most."""
    database: Database = request.app.state.database
    name = ""

    async def ping() -> None:
        nonlocal name
        name = await database.ping()

    started = time.perf_counter()
    health = await check(ping)
    if health.status is HealthStatus.DOWN:
        raise DatabaseDown(headers=NO_CACHE)
    response.headers.update(NO_CACHE)
    latency = round((time.perf_counter() - started) * 1000, 2)
    return DatabaseHealth(status=health.status, latency_ms=latency, database=name)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format."}},
)
async def get_metrics(request: Request) -> Response:
    """Requests, runs and connections of this process, and what waits in the database for any of them."""
    await request.app.state.process_metrics.refresh()
    return Response(render(request.app.state.metrics), media_type=METRICS_CONTENT_TYPE)
