"""Signed tokens: the only place that touches python-jose.

python-jose accepts more than is safe by default, so this wrapper fixes the algorithm, requires every
claim, gives each kind of token its own `typ` claim, refuses `crit` headers and oversized tokens, and
refuses keys under 32 bytes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from jose import JWTError, jwt
from jose.exceptions import JOSEError

ALGORITHM = "HS256"
MAX_TOKEN_CHARS = 4096
MIN_KEY_BYTES = 32


# Of python-jose, for whatever a stranger may write in the place of a token.
_REFUSALS = (
    JWTError,
    JOSEError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
)


class TokenKind(StrEnum):
    ACCESS = "access"
    SERVICE = "service"
    ADMIN_PAGES = "admin_pages"


class ServiceName(StrEnum):
    CHAT_API = "chat_api"
    AGENT_SERVICE = "agent_service"


class WeakKey(ValueError):
    """A signing key of fewer than 32 bytes."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The key that makes everything new, and those whose work is accepted beside it while keys are changed.

    A previous key may also be one that is about to become the current one: it has to be accepted everywhere before
    anybody signs with it. Raises `WeakKey`. Its `repr` shows no key.
    """

    current: str = field(repr=False)
    previous: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if any(len(key.encode()) < MIN_KEY_BYTES for key in self):
            raise WeakKey(f"A signing key needs {MIN_KEY_BYTES} bytes or more")

    def __iter__(self) -> Iterator[str]:
        """The current one first."""
        yield self.current
        yield from self.previous


class InvalidToken(Exception):
    """The token is malformed, forged, expired, or of another kind. Deliberately says no more."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `expires_at` is in seconds since the epoch."""

    subject: str
    token_id: str
    expires_at: int


class TokenSigner:
    """Makes and checks tokens of one kind, from one issuer, for one audience.

    A lone key is a ring of one. Raises `WeakKey` on construction and `InvalidToken` from `verify`.
    """

    def __init__(
        self,
        key: str | KeyRing,
        *,
        kind: TokenKind,
        issuer: str,
        audience: str,
        lifetime: timedelta,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = key if isinstance(key, KeyRing) else KeyRing(key)
        self._kind = kind
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self.lifetime = lifetime

    def mint(self, subject: str) -> str:
        issued = int(self._now())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "typ": self._kind.value,
            "iat": issued,
            "exp": issued + int(self.lifetime.total_seconds()),
            "jti": uuid.uuid4().hex,
        }
        token: str = jwt.encode(claims, self._keys.current, algorithm=ALGORITHM)
        return token

    def verify(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii() or token.count(".") != 2:
            raise InvalidToken
        try:
            header: dict[str, Any] = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM or "crit" in header:
                raise InvalidToken
        except _REFUSALS:
            raise InvalidToken from None
        claims = self._claims(token)
        expires_at = claims["exp"]
        if claims.get("typ") != self._kind.value or not isinstance(expires_at, int) or expires_at <= self._now():
            raise InvalidToken
        return Claims(subject=claims["sub"], token_id=claims["jti"], expires_at=expires_at)

    def _claims(self, token: str) -> dict[str, Any]:
        """What one of the keys signed, the current one first. Signatures are compared in constant time."""
        for key in self._keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    audience=self._audience,
                    issuer=self._issuer,
                    options={f"require_{name}": True for name in ("exp", "iat", "aud", "iss", "sub", "jti")},
                )
            except _REFUSALS:
                continue
            return claims
        raise InvalidToken


def service_signer(
    key: str | KeyRing, *, issuer: ServiceName, audience: ServiceName, now: Callable[[], float] = time.time
) -> TokenSigner:
    """Tokens that one service shows the other. They live for five minutes and are minted anew as needed."""
    return TokenSigner(
        key,
        kind=TokenKind.SERVICE,
        issuer=issuer.value,
        audience=audience.value,
        lifetime=timedelta(minutes=5),
        now=now,
    )


class ServiceToken:
    """A bearer token for the other service, minted again when less than half of its life is left."""

    def __init__(self, signer: TokenSigner, subject: ServiceName, *, now: Callable[[], float] = time.monotonic) -> None:
        self._signer = signer
        self._subject = subject
        self._now = now
        self._token = ""
        self._renew_at = float("-inf")

    def __call__(self) -> str:
        if self._now() >= self._renew_at:
            self._token = self._signer.mint(self._subject.value)
            self._renew_at = self._now() + self._signer.lifetime.total_seconds() / 2
        return self._token
