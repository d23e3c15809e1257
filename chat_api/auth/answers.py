"""The problems that every route for an authenticated caller can answer with, documented in one place."""

from __future__ import annotations

from typing import Any

from chat_api.auth.errors import InsufficientScope, RateLimited
from shared.problems import (
    MalformedRequest,
    NotAuthenticated,
    PayloadTooLarge,
    Problem,
    ServiceUnavailable,
    ValidationFailed,
)
from shared.web.responses import problems


def answers(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: its own problems, and those of every route behind a credential."""
    return problems(
        MalformedRequest,
        NotAuthenticated,
        InsufficientScope,
        *kinds,
        PayloadTooLarge,
        ValidationFailed,
        RateLimited,
        ServiceUnavailable,
    )
