"""Secrets of webhooks as they are stored, before, while and after the key is changed."""

from __future__ import annotations

import traceback

import pytest

from chat_api.webhooks.errors import SecretUnreadable
from chat_api.webhooks.secrets import WebhookSecrets
from shared.security import KeyRing

OLD = "the old secret key of more than thirty-two bytes"
NEW = "the new secret key of more than thirty-two bytes"
SECRET = "whsec_c2VjcmV0"


def test_what_an_earlier_key_sealed_is_read_and_everything_new_is_sealed_with_the_current_one() -> None:
    while_rotating = WebhookSecrets(KeyRing(NEW, (OLD,)))
    assert while_rotating.read(WebhookSecrets(KeyRing(OLD)).seal(SECRET)) == SECRET
    assert WebhookSecrets(KeyRing(NEW)).read(while_rotating.seal(SECRET)) == SECRET
    with pytest.raises(SecretUnreadable):
        WebhookSecrets(KeyRing(OLD)).read(while_rotating.seal(SECRET))


def test_resealed_it_outlives_the_earlier_key() -> None:
    before = WebhookSecrets(KeyRing(OLD)).seal(SECRET)
    after = WebhookSecrets(KeyRing(NEW, (OLD,))).resealed(before)
    assert SECRET.encode() not in after
    assert WebhookSecrets(KeyRing(NEW)).read(after) == SECRET
    with pytest.raises(SecretUnreadable):
        WebhookSecrets(KeyRing(OLD)).read(after)


def test_what_is_under_the_current_key_is_left_alone() -> None:
    secrets = WebhookSecrets(KeyRing(NEW, (OLD,)))
    sealed = secrets.seal(SECRET)
    assert secrets.resealed(sealed) is sealed


@pytest.mark.parametrize("keys", [KeyRing(NEW), KeyRing(NEW, (NEW + "!",))])
def test_without_the_right_key_it_is_neither_read_nor_resealed(keys: KeyRing) -> None:
    sealed = WebhookSecrets(KeyRing(OLD)).seal(SECRET)
    secrets = WebhookSecrets(keys)
    for attempt in (secrets.read, secrets.resealed):
        with pytest.raises(SecretUnreadable) as refused:
            attempt(sealed)
        told = repr(secrets) + "".join(traceback.format_exception(refused.value))
        assert not [key for key in (*keys, OLD) if key in told]


def test_tampering_is_told_with_either_key() -> None:
    secrets = WebhookSecrets(KeyRing(NEW, (OLD,)))
    for key in (OLD, NEW):
        sealed = bytearray(WebhookSecrets(KeyRing(key)).seal(SECRET))
        sealed[40] ^= 1
        for attempt in (secrets.read, secrets.resealed):
            with pytest.raises(SecretUnreadable):
                attempt(bytes(sealed))
