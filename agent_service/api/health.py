"""`/health/live`, `/health/ready` and `/metrics`: open to everyone, and telling nothing that is secret."""

from __future__ import annotations

from fastapi import APIRouter, Response

from agent_service.api.state import State
from shared.telemetry import METRICS_CONTENT_TYPE, render
from shared.web.health import NO_CACHE, HealthStatus, Liveness, Readiness, readiness

router = APIRouter(tags=["health"])


@router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live(response: Response) -> Liveness:
    """Answers as long as the event loop turns. Depends on nothing else."""
    response.headers.update(NO_CACHE)
    return Liveness(status=HealthStatus.OK)


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Can it answer turns?",
    responses={503: {"model": Readiness, "description": "A required dependency is down."}},
)
async def ready(state: State, response: Response) -> Readiness:
    """The default model must be usable; embedder and index only show. Keys are not tried against their providers."""
    result = await readiness(state.required_probes, state.optional_probes)
    response.headers.update(NO_CACHE)
    if result.status is not HealthStatus.OK:
        response.status_code = 503
    return result


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."}},
)
async def metrics(state: State) -> Response:
    """Turns, tokens, times and retries by provider, and requests by route."""
    return Response(render(state.registry), media_type=METRICS_CONTENT_TYPE, headers=NO_CACHE)
