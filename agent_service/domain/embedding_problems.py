"""How embedding fails. Details never quote the provider: its text may hold what was sent, or a key."""

from __future__ import annotations

import math
from typing import ClassVar

from shared.problems import Problem


class EmbedderProblem(Problem):
    """A failure of the embedding model, or of the way to it.

    `asked_to_wait` is what the provider asked for, in seconds.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, *, asked_to_wait: float | None = None) -> None:
        self.asked_to_wait = asked_to_wait
        super().__init__(detail, retry_after=None if asked_to_wait is None else max(1, math.ceil(asked_to_wait)))


class EmbedderUnavailable(EmbedderProblem):
    status = 503
    code = "embedder-unavailable"
    title = "The embedder is unavailable"
    detail = "The embedding model cannot be reached, or broke off. Try again."
    retry_after = 5
    retryable = True


class EmbedderNotInstalled(EmbedderUnavailable):
    detail = "The local embedding model is not installed, or cannot be loaded."
    retry_after = 30
    retryable = False


class EmbedderTimeout(EmbedderProblem):
    status = 504
    code = "embedder-timeout"
    title = "The embedder took too long"
    detail = "The embedding model did not answer in time. Try again."
    retry_after = 5
    retryable = True


class EmbedderRateLimited(EmbedderProblem):
    status = 429
    code = "embedder-rate-limited"
    title = "The embedder's provider limits the rate"
    detail = "The provider of the embedding model takes no more texts for now."
    retry_after = 10
    retryable = True


class EmbedderRejected(EmbedderProblem):
    """Trying again does not help before somebody has changed the configuration."""

    status = 502
    code = "embedder-rejected"
    title = "The embedder's provider refused the call"
    detail = "The provider refused to embed: the key, the model or the dimensions that are configured are wrong."
    retry_after = 60


EMBEDDER_PROBLEMS: tuple[type[EmbedderProblem], ...] = (
    EmbedderUnavailable,
    EmbedderTimeout,
    EmbedderRateLimited,
    EmbedderRejected,
)
