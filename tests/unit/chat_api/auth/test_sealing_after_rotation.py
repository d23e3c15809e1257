"""Stored answers that carry a secret, while the key they are sealed with is changed."""

from __future__ import annotations

import traceback

import pytest

from chat_api.auth.sealing import SecretSeal
from chat_api.kit.idempotency import IdempotencyKeyReused
from shared.security import KeyRing

OLD = "the old secret key of more than thirty-two bytes"
NEW = "the new secret key of more than thirty-two bytes"
ANSWER = b'{"key": "cq_secret"}'


@pytest.mark.parametrize(
    ("sealed_by", "opened_by"),
    [
        (KeyRing(OLD), KeyRing(OLD, (NEW,))),
        (KeyRing(OLD, (NEW,)), KeyRing(NEW, (OLD,))),
        (KeyRing(NEW, (OLD,)), KeyRing(OLD, (NEW,))),
        (KeyRing(NEW, (OLD,)), KeyRing(NEW)),
    ],
)
def test_every_process_of_a_rotation_opens_it(sealed_by: KeyRing, opened_by: KeyRing) -> None:
    assert SecretSeal(opened_by).open(SecretSeal(sealed_by).close(ANSWER)) == ANSWER


@pytest.mark.parametrize("tampered", [False, True])
def test_a_dropped_key_and_tampering_are_a_problem_that_shows_nothing(*, tampered: bool) -> None:
    sealed = SecretSeal(KeyRing(OLD)).close(ANSWER)
    stored = sealed[:-3] + b"AA=" if tampered else sealed
    seal = SecretSeal(KeyRing(NEW, (OLD,)) if tampered else KeyRing(NEW))

    with pytest.raises(IdempotencyKeyReused) as refused:
        seal.open(stored)

    told = repr(seal) + "".join(traceback.format_exception(refused.value))
    assert OLD not in told
    assert NEW not in told


def test_what_is_for_one_purpose_is_not_opened_for_another() -> None:
    from chat_api.webhooks.secrets import WebhookSecrets

    with pytest.raises(IdempotencyKeyReused):
        SecretSeal(KeyRing(NEW, (OLD,))).open(WebhookSecrets(KeyRing(OLD)).seal("whsec_secret"))
