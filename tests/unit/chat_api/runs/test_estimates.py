"""Tokens that nobody counted."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chat_api.runs.estimates import TurnUsage, estimate, request_tokens, tokens_of
from shared.contracts.chat import ChatRequest, DeltaEvent, Usage, UsageEvent

TURN = ChatRequest.model_validate(
    {"run_id": uuid4(), "system_prompt": "x" * 40, "messages": [{"role": "user", "content": "x" * 400}]}
)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("four", 1), ("fives", 2), ("日本語の文", 4), ("\ud800", 1)]
)
def test_a_token_is_four_bytes(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


def test_a_turn_is_all_that_it_shows() -> None:
    assert request_tokens(TURN) == 10 + 4 + 100 + 4


def test_a_picture_counts() -> None:
    image = {"media_type": "image/png", "data": "aGVsbG8="}
    shown = ChatRequest.model_validate(
        {"run_id": uuid4(), "messages": [{"role": "user", "content": "See?", "images": [image]}]}
    )
    assert request_tokens(shown) > 300


def test_an_estimate_adds_up() -> None:
    assert estimate(100, "x" * 40) == Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110)


def test_what_a_provider_told_is_taken_and_what_it_did_not_is_estimated() -> None:
    told, heard, silent = TurnUsage(TURN), TurnUsage(TURN), TurnUsage(TURN)
    for usage in (told, heard):
        usage.hear(DeltaEvent(text="x" * 40))
    told.hear(UsageEvent(usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)))

    assert (told.tokens, heard.tokens, silent.tokens) == (3, 128, 0)
