"""What embedding by a provider has in common: estimates, batches, patience, and vectors as they come back."""

from __future__ import annotations

import asyncio
import math
import random
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from agent_service.domain.embedding_problems import (
    EmbedderProblem,
    EmbedderRateLimited,
    EmbedderRejected,
    EmbedderTimeout,
    EmbedderUnavailable,
)
from agent_service.ports.embedder import EmbeddingPurpose, Vector
from shared.logging import get_logger

log = get_logger("embedder.remote")

T = TypeVar("T")

_CHARS_PER_TOKEN = 4


def estimated_tokens(text: str) -> int:
    """Four characters of ASCII to a token, any other character one: what English and Chinese come to, roughly.

    The tokenizers of providers are theirs; their own counts cost a call for each text.
    """
    plain = len(text.encode("ascii", "ignore"))
    return math.ceil(plain / _CHARS_PER_TOKEN) + len(text) - plain


def cut(text: str, max_tokens: int) -> str:
    """The beginning of the text, of so many tokens by the estimate. Never empty: providers refuse that."""
    if estimated_tokens(text) > max_tokens:
        text = text[: max_tokens * _CHARS_PER_TOKEN]
        while (tokens := estimated_tokens(text)) > max_tokens:
            text = text[: len(text) * max_tokens // tokens]
    return text if text.strip() else "."


def batches(texts: Sequence[str], *, max_texts: int, max_chars: int) -> Iterator[list[str]]:
    """The texts in order, as many to a batch as fit."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        if batch and (len(batch) == max_texts or chars + len(text) > max_chars):
            yield batch
            batch, chars = [], 0
        batch.append(text)
        chars += len(text)
    if batch:
        yield batch


def unit_vectors(vectors: Iterable[Sequence[float]], dimensions: int) -> list[Vector]:
    """Raises `EmbedderRejected` for vectors that must not be stored."""
    return [_unit_vector(values, dimensions) for values in vectors]


def _unit_vector(values: Sequence[float], dimensions: int) -> Vector:
    if len(values) != dimensions:
        raise EmbedderRejected(
            f"The embedding model answers with {len(values)} dimensions, and {dimensions} are configured."
        )
    norm = math.hypot(*values)
    if not (math.isfinite(norm) and norm > 0):
        raise EmbedderRejected("The embedding model answers with vectors that point nowhere.")
    return array("f", [value / norm for value in values])


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call is waited for and tried again. `longest_wait` is the most that a provider may ask for.

    No attempt begins after `attempts_end`. All in seconds, but for `attempts`, the first call included.
    """

    attempts: int
    call_seconds: float
    first_wait: float
    longest_wait: float
    attempts_end: float = 60.0


# Somebody waits for the answer to a query; a document is put in the background, and a minute's rate limit is common.
PATIENCE: Mapping[EmbeddingPurpose, Patience] = {
    EmbeddingPurpose.QUERY: Patience(attempts=2, call_seconds=8, first_wait=0.2, longest_wait=1),
    EmbeddingPurpose.DOCUMENT: Patience(attempts=6, call_seconds=30, first_wait=0.5, longest_wait=30),
}


async def patiently(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """The result of the call, which raises an `EmbedderProblem` where it fails.

    Waits between attempts as long as the provider asks for, else twice as long each time, with jitter.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + patience.attempts_end
    for attempt in range(1, patience.attempts + 1):
        try:
            async with asyncio.timeout(patience.call_seconds):
                return await call()
        except TimeoutError:
            problem: EmbedderProblem = EmbedderTimeout()
        except EmbedderProblem as raised:
            problem = raised
        wait = problem.asked_to_wait
        if wait is None:
            wait = min(patience.first_wait * 2 ** (attempt - 1), patience.longest_wait) * random.uniform(0.5, 1)  # noqa: S311 - spreads callers, guards nothing
        is_last = attempt == patience.attempts or loop.time() + wait > ends
        if not problem.retryable or is_last or wait > patience.longest_wait:
            raise problem
        log.info("embedder.retried", code=problem.code, attempt=attempt, wait=round(wait, 2))
        await asyncio.sleep(wait)
    raise AssertionError("there is at least one attempt")


def problem_for_status(status: int, asked_to_wait: float | None) -> EmbedderProblem:
    """What an HTTP status of a provider means, whatever its body says."""
    if status in (401, 403):
        return EmbedderRejected("The provider of the embedding model refused the key.")
    if status == 404:
        return EmbedderRejected("The provider knows no embedding model of that name.")
    if status == 429:
        return EmbedderRateLimited(asked_to_wait=asked_to_wait)
    if status in (408, 504):
        return EmbedderTimeout(asked_to_wait=asked_to_wait)
    return EmbedderUnavailable(asked_to_wait=asked_to_wait) if status >= 500 else EmbedderRejected()
