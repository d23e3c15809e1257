"""Estimates, batches, patience, and vectors as providers send them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from agent_service.adapters.remote_embedding import (
    Patience,
    batches,
    cut,
    estimated_tokens,
    patiently,
    unit_vectors,
)
from agent_service.domain.embedding_problems import (
    EmbedderProblem,
    EmbedderRateLimited,
    EmbedderRejected,
    EmbedderTimeout,
    EmbedderUnavailable,
)

QUICK = Patience(attempts=3, call_seconds=0.5, first_wait=0.001, longest_wait=0.05)


class Calls:
    """Fails as it is told, one failure after another, and then goes well."""

    def __init__(self, *failures: Callable[[], EmbedderProblem]) -> None:
        self._failures = list(failures)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self._failures:
            failure = self._failures.pop(0)
            raise failure()
        return "well"


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("word", 1), ("words", 2), ("x" * 400, 100), ("海港", 2), ("Häfen", 2)]
)
def test_tokens_are_estimated_by_the_kind_of_characters(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


@pytest.mark.parametrize("text", ["word " * 1000, "海" * 1000, "海 word " * 500, "a" * 999 + "海" * 999])
def test_a_text_is_cut_to_what_is_read(text: str) -> None:
    kept = cut(text, 100)
    assert text.startswith(kept)
    assert 50 <= estimated_tokens(kept) <= 100


def test_a_short_text_is_left_alone_and_an_empty_one_is_not_sent() -> None:
    assert cut("A harbour.", 100) == "A harbour."
    assert cut("", 100).strip()
    assert cut(" \n ", 100).strip()


def test_batches_hold_so_many_texts_and_characters() -> None:
    texts = ["ab", "cd", "ef", "g" * 20, "h", "i"]
    assert list(batches(texts, max_texts=2, max_chars=10)) == [["ab", "cd"], ["ef"], ["g" * 20], ["h", "i"]]
    assert list(batches([], max_texts=2, max_chars=10)) == []


def test_vectors_are_made_unit_length() -> None:
    (vector,) = unit_vectors([[3.0, 0.0, 4.0]], 3)
    assert vector.tolist() == pytest.approx([0.6, 0.0, 0.8])


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0] * 4, [0.0] * 3, [math.nan, 1.0, 1.0], [math.inf, 1.0, 1.0]])
def test_a_vector_that_must_not_be_stored_is_refused(values: list[float]) -> None:
    with pytest.raises(EmbedderRejected):
        unit_vectors([values], 3)


async def test_a_call_that_may_go_well_is_made_again() -> None:
    calls = Calls(EmbedderUnavailable, EmbedderTimeout)
    assert await patiently(calls, QUICK) == "well"
    assert calls.made == 3


async def test_patience_has_an_end() -> None:
    calls = Calls(*[EmbedderUnavailable] * 5)
    with pytest.raises(EmbedderUnavailable):
        await patiently(calls, QUICK)
    assert calls.made == 3


async def test_no_attempt_begins_after_its_time() -> None:
    calls = Calls(*[EmbedderUnavailable] * 5)
    with pytest.raises(EmbedderUnavailable):
        await patiently(
            calls, Patience(attempts=6, call_seconds=1, first_wait=0.05, longest_wait=0.05, attempts_end=0.06)
        )
    assert 1 <= calls.made <= 3


async def test_what_will_not_go_well_is_not_tried_again() -> None:
    calls = Calls(EmbedderRejected)
    with pytest.raises(EmbedderRejected):
        await patiently(calls, QUICK)
    assert calls.made == 1


async def test_the_provider_says_how_long_to_wait() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await patiently(Calls(lambda: EmbedderRateLimited(asked_to_wait=0.04)), QUICK) == "well"
    assert loop.time() - began >= 0.04


async def test_a_wait_that_is_too_long_is_left_to_the_caller() -> None:
    calls = Calls(lambda: EmbedderRateLimited(asked_to_wait=20))
    with pytest.raises(EmbedderRateLimited) as raised:
        await patiently(calls, QUICK)
    assert calls.made == 1
    assert raised.value.retry_after == 20


async def test_a_call_that_never_ends_is_a_timeout() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(EmbedderTimeout):
        await patiently(never, Patience(attempts=2, call_seconds=0.01, first_wait=0.001, longest_wait=0.01))
