"""What the HTTP statuses of providers mean to a turn. They agree on these, whatever their bodies say."""

from __future__ import annotations

from agent_service.domain.problems import (
    ContextTooLong,
    ModelNotFound,
    ModelProblem,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)


def problem_for_status(status: int, asked_to_wait: float | None) -> ModelProblem:
    """`asked_to_wait` is in seconds, where the provider said how long."""
    if status in (401, 403):
        return ModelRejected("The provider refused the key.")
    if status == 429:
        return ModelRateLimited(asked_to_wait=asked_to_wait)
    plain = {404: ModelNotFound, 408: ModelTimeout, 413: ContextTooLong, 504: ModelTimeout}.get(status)
    if plain is not None:
        return plain()
    return ModelUnavailable(asked_to_wait=asked_to_wait) if status >= 500 else ModelRejected()
