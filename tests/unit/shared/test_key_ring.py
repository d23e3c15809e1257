"""Keys that are changed while everything runs: who accepts what, in which order, and that no key is ever shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import traceback
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from shared.security import (
    InvalidToken,
    KeyRing,
    ServiceName,
    ServiceToken,
    TokenKind,
    TokenSigner,
    WeakKey,
    service_signer,
)

OLD = "the-old-key-that-is-long-enough-0123456789-old"
NEW = "the-new-key-that-is-long-enough-0123456789-new"
STRANGE = "a-strange-key-that-is-long-enough-0123456789-x"
STAGES = {
    "before": KeyRing(OLD),
    "the new one is accepted": KeyRing(OLD, (NEW,)),
    "the new one signs": KeyRing(NEW, (OLD,)),
    "after": KeyRing(NEW),
}
"""What docs/operations.md has an operator do, restart by restart."""


def signer(keys: KeyRing | str, **changes: Any) -> TokenSigner:
    fields: dict[str, Any] = {"kind": TokenKind.ACCESS, "issuer": "us", "audience": "them"}
    return TokenSigner(keys, lifetime=timedelta(minutes=5), **{**fields, **changes})


def forge(header: dict[str, Any], key: str, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": "us", "aud": "them", "sub": "ann", "typ": "access", "iat": now, "exp": now + 60, "jti": "j"}
    given = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, given)]
    signature = hmac.digest(key.encode(), ".".join(parts).encode(), hashlib.sha256)
    return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


GOOD_HEADER = {"alg": "HS256", "typ": "JWT"}


def is_accepted(keys: KeyRing, token: str) -> bool:
    try:
        return signer(keys).verify(token).subject == "ann"
    except InvalidToken:
        return False


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(STAGES)))
def test_neighbouring_stages_understand_each_other(earlier: str, later: str) -> None:
    """In a restart of one process after the other there are two stages at a time, and no third."""
    if later == "after":
        # What is left of the old key has run out by then; what the new one signs is understood by both.
        assert is_accepted(STAGES[earlier], signer(STAGES[later]).mint("ann"))
        assert is_accepted(STAGES[later], signer(STAGES[earlier]).mint("ann"))
        return
    for one, other in ((earlier, later), (later, earlier)):
        assert is_accepted(STAGES[one], signer(STAGES[other]).mint("ann")), f"{one} refuses what {other} signed"


def test_a_step_left_out_would_not_do() -> None:
    assert not is_accepted(STAGES["before"], signer(STAGES["the new one signs"]).mint("ann"))
    assert not is_accepted(STAGES["after"], signer(STAGES["the new one is accepted"]).mint("ann"))


@pytest.mark.parametrize(("stage", "key"), list(zip(STAGES, (OLD, OLD, NEW, NEW), strict=True)))
def test_everything_new_is_signed_with_the_current_key(stage: str, key: str) -> None:
    token = signer(STAGES[stage]).mint("ann")
    assert is_accepted(KeyRing(key), token)
    assert not is_accepted(KeyRing(NEW if key == OLD else OLD), token)


def test_a_key_that_was_dropped_is_refused_at_once() -> None:
    token = signer(OLD).mint("ann")
    assert is_accepted(STAGES["the new one signs"], token)
    assert not is_accepted(STAGES["after"], token)


def test_several_changes_may_be_under_way() -> None:
    ring = KeyRing(NEW, (STRANGE, OLD))
    assert all(is_accepted(ring, signer(key).mint("ann")) for key in (OLD, STRANGE, NEW))


@pytest.mark.parametrize("key", [OLD, NEW])
@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"alg": "none"}, {}),
        ({"alg": "HS512"}, {}),
        ({"crit": ["exp"]}, {}),
        ({}, {"typ": "service"}),
        ({}, {"aud": "others"}),
        ({}, {"iss": "others"}),
        ({}, {"exp": 1}),
        ({}, {"exp": "never"}),
        *[({}, {name: ...}) for name in ("iss", "aud", "sub", "exp", "iat", "jti", "typ")],
    ],
    ids=str,
)
def test_a_previous_key_excuses_nothing(header: dict[str, Any], changes: dict[str, Any], key: str) -> None:
    ring = KeyRing(NEW, (OLD,))
    assert is_accepted(ring, forge(GOOD_HEADER, key)), "made by hand it is good, so what follows fails for its own sake"
    assert not is_accepted(ring, forge(GOOD_HEADER | header, key, **changes))


@pytest.mark.parametrize("key", [OLD, NEW])
def test_tampering_is_refused(key: str) -> None:
    ring = KeyRing(NEW, (OLD,))
    head, body, signature = signer(key).mint("ann").split(".")
    other_head, other_body, other_signature = signer(STRANGE).mint("ann").split(".")
    assert is_accepted(ring, f"{head}.{body}.{signature}")
    for forged in (
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.{other_signature}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.",
        f"{other_head}.{other_body}.{other_signature}",
    ):
        assert not is_accepted(ring, forged)


@pytest.mark.parametrize("short", ["", "x" * 31])
def test_each_key_has_to_be_strong(short: str) -> None:
    for current, previous in ((short, ()), (NEW, (short,)), (NEW, (OLD, short))):
        with pytest.raises(WeakKey):
            KeyRing(current, previous)
    with pytest.raises(WeakKey):
        signer(short)


def test_the_services_tokens_follow_the_same_steps() -> None:
    def of(keys: KeyRing) -> TokenSigner:
        return service_signer(keys, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)

    shown = ServiceToken(of(STAGES["the new one is accepted"]), ServiceName.CHAT_API)()
    assert of(STAGES["the new one signs"]).verify(shown).subject == "chat_api"
    with pytest.raises(InvalidToken):
        of(STAGES["after"]).verify(shown)


def test_no_key_is_shown() -> None:
    ring = KeyRing(NEW, (OLD,))
    told = [repr(ring), str(ring), f"{ring}", repr(signer(ring))]
    with pytest.raises(InvalidToken) as refused:
        signer(ring).verify(forge(GOOD_HEADER, STRANGE))
    with pytest.raises(WeakKey) as weak:
        KeyRing(NEW, (OLD, "short-one"))
    for error in (refused.value, weak.value):
        told += [repr(error), "".join(traceback.format_exception(error))]
        assert error.__cause__ is None
        assert error.__context__ is None
    lines = [line for text in told for line in text.splitlines() if "KeyRing(NEW" not in line]
    assert not [line for line in lines for secret in (OLD, NEW, "short-one") if secret in line]
