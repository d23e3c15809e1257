"""Stored answers that carry a secret."""

from __future__ import annotations

import pytest

from chat_api.auth.sealing import SecretSeal
from chat_api.kit.idempotency import IdempotencyKeyReused
from shared.security import KeyRing

KEY = KeyRing("a secret key of more than thirty-two bytes")


def test_what_was_sealed_is_opened_by_the_same_secret_key() -> None:
    sealed = SecretSeal(KEY).close(b'{"key": "cq_secret"}')

    assert b"secret" not in sealed
    assert SecretSeal(KEY).open(sealed) == b'{"key": "cq_secret"}'


@pytest.mark.parametrize("change", ["key", "bytes"])
def test_what_cannot_be_opened_is_a_problem_and_not_a_crash(change: str) -> None:
    sealed = SecretSeal(KEY).close(b"{}")

    seal = SecretSeal(KeyRing(KEY.current + "!")) if change == "key" else SecretSeal(KEY)
    stored = sealed if change == "key" else sealed[:-1]

    with pytest.raises(IdempotencyKeyReused):
        seal.open(stored)
