"""Signed tokens: what is accepted is one algorithm, one kind, one issuer, one audience, all claims, in time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.security import (
    MAX_TOKEN_CHARS,
    InvalidToken,
    ServiceName,
    ServiceToken,
    TokenKind,
    TokenSigner,
    WeakKey,
    service_signer,
)

KEY = "a-key-of-a-test-that-is-long-enough-0123456789"
_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def signer(**changes: Any) -> TokenSigner:
    fields: dict[str, Any] = {
        "kind": TokenKind.ACCESS,
        "issuer": "us",
        "audience": "them",
        "lifetime": timedelta(minutes=5),
    }
    return TokenSigner(changes.pop("key", KEY), **{**fields, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": "us", "aud": "them", "sub": "ann", "typ": "access", "iat": now, "exp": now + 60, "jti": "j"}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def forge(payload: Any, *, header: dict[str, Any] | None = None, key: str = KEY) -> str:
    """A token signed by hand, so that nothing of the library under test is in the way."""
    header = {"alg": "HS256", "typ": "JWT", **(header or {})}
    signed = f"{_part(header)}.{_part(payload)}"
    digest = _HASHES.get(str(header["alg"]), hashlib.sha256)
    signature = hmac.new(key.encode(), signed.encode(), digest).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_what_is_minted_verifies() -> None:
    before = int(time.time())
    found = signer().verify(signer().mint("ann"))
    assert found.subject == "ann"
    assert before + 300 <= found.expires_at <= time.time() + 300
    assert signer().verify(signer().mint("ann")).token_id != found.token_id


def test_a_token_made_by_hand_verifies_so_the_forgeries_below_fail_for_their_own_reason() -> None:
    assert signer().verify(forge(claims())).subject == "ann"


FORGERIES: dict[str, str] = {
    "another key": forge(claims(), key="another-key-that-is-long-enough-0123456789"),
    "alg none": f"{_part({'alg': 'none'})}.{_part(claims())}.",
    "alg None": f"{_part({'alg': 'None'})}.{_part(claims())}.",
    "alg none, signed": forge(claims(), header={"alg": "none"}),
    "HS384": forge(claims(), header={"alg": "HS384"}),
    "HS512": forge(claims(), header={"alg": "HS512"}),
    "RS256": forge(claims(), header={"alg": "RS256"}),
    "alg as a list": forge(claims(), header={"alg": ["HS256"]}),
    "crit": forge(claims(), header={"crit": ["exp"]}),
    "empty crit": forge(claims(), header={"crit": []}),
    "another kind": forge(claims(typ="service")),
    "no kind": forge(claims(typ=...)),
    "kind as a list": forge(claims(typ=["access"])),
    "another audience": forge(claims(aud="others")),
    "another issuer": forge(claims(iss="others")),
    "expired": forge(claims(exp=int(time.time()) - 1)),
    "expires as text": forge(claims(exp="never")),
    "expires as a list": forge(claims(exp=[2**40])),
    "expires beyond measure": forge(claims(exp=1e400)),
    "not yet valid": forge(claims(nbf=int(time.time()) + 600)),
    "issued as text": forge(claims(iat="today")),
    "subject as a number": forge(claims(sub=5)),
    "subject as null": forge(claims(sub=None)),
    "token id as a number": forge(claims(jti=5)),
    **{f"no {name}": forge(claims(**{name: ...})) for name in ("iss", "aud", "sub", "exp", "iat", "jti")},
    "claims as a list": forge([1]),
    "claims as text": forge("claims"),
    "oversized": forge(claims(padding="x" * MAX_TOKEN_CHARS)),
    "too few parts": ".".join(forge(claims()).split(".")[:2]),
    "too many parts": forge(claims()) + ".e30",
    "deeply nested header": f"{base64.urlsafe_b64encode(b'[' * 1500).decode()}.e30.e30",
    "nothing": "",
    "dots": "..",
    "not ascii": "ä.ö.ü",
}


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_forgeries_are_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        signer().verify(token)


def test_a_cut_signature_is_refused() -> None:
    token = signer().mint("ann")
    for length in range(len(token)):
        with pytest.raises(InvalidToken):
            signer().verify(token[:length])


@given(st.text(max_size=200))
def test_garbage_raises_nothing_else(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}"):
        with pytest.raises(InvalidToken):
            signer().verify(token)


def test_its_own_clock_decides_when_a_token_ends() -> None:
    moment = time.time()
    checking = signer(now=lambda: moment)
    token = checking.mint("ann")
    moment += 299
    assert checking.verify(token).subject == "ann"
    moment += 1
    with pytest.raises(InvalidToken):
        checking.verify(token)


@pytest.mark.parametrize("key", ["", "x" * 31, "ä" * 15])
def test_a_weak_key_is_refused(key: str) -> None:
    with pytest.raises(WeakKey):
        signer(key=key)


@pytest.mark.parametrize("key", ["x" * 32, "ä" * 16])
def test_length_counts_in_bytes(key: str) -> None:
    assert signer(key=key).verify(signer(key=key).mint("ann")).subject == "ann"


def test_a_service_token_holds_in_one_direction_only() -> None:
    there = service_signer(KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    back = service_signer(KEY, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API)
    token = there.mint(ServiceName.CHAT_API)
    assert there.verify(token).subject == "chat_api"
    with pytest.raises(InvalidToken):
        back.verify(token)


def test_a_service_token_is_renewed_at_half_its_life() -> None:
    moment = 1000.0
    signing = service_signer(KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    token = ServiceToken(signing, ServiceName.CHAT_API, now=lambda: moment)
    first = token()
    moment += 149.9
    assert token() == first
    moment += 0.1
    second = token()
    assert second != first
    assert signing.verify(second).subject == "chat_api"
    moment += 10_000
    assert token() != second
