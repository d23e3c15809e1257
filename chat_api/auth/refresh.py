"""Refresh tokens: opaque, good once, in families.

The scheme is the one of RFC 9700 (OAuth 2.0 Security Best Current Practice), section 4.14: each use
gives a new token, and a token that comes a second time was stolen by somebody, so the family ends.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hmac import compare_digest
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth.authenticator import hash_secret
from chat_api.auth.models import RefreshFamily, RevocationReason
from chat_api.auth.repository import RefreshFamilyRepository
from chat_api.kit.clock import Clock
from shared.logging import get_logger

log = get_logger("auth")

_TOKEN = re.compile(r"cqr_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Rotated:
    user_id: UUID
    token: str


class Refusal(StrEnum):
    """Why a token was not rotated. A value and not an exception: the revocation must be committed."""

    INVALID = "invalid"
    REUSED = "reused"


class RefreshTokens:
    """Works inside the caller's unit of work, and never raises for a bad token."""

    def __init__(self, db: AsyncSession, clock: Clock, lifetime: timedelta) -> None:
        self._families = RefreshFamilyRepository(db)
        self._clock = clock
        self._lifetime = lifetime

    async def start(self, user_id: UUID) -> str:
        """Begin a family and return its first token."""
        now = self._clock.now()
        secret = _new_secret()
        family = RefreshFamily(
            id=uuid.uuid4(),
            user_id=user_id,
            secret_hash=hash_secret(secret),
            rotated_at=now,
            expires_at=now + self._lifetime,
        )
        await self._families.add(family)
        return _written(family.id, secret)

    async def rotate(self, token: str) -> Rotated | Refusal:
        """Exchange a token for the next of its family; revoke the family when it was used before."""
        family, secret = await self._find(token)
        now = self._clock.now()
        if family is None or family.revoked_at is not None or family.expires_at <= now:
            return Refusal.INVALID
        if not compare_digest(family.secret_hash, hash_secret(secret)):
            _revoke(family, RevocationReason.REUSE, now)
            log.warning("refresh_token.reused", user_id=family.user_id)
            return Refusal.REUSED
        if not await self._families.owner_is_active(family):
            return Refusal.INVALID
        secret = _new_secret()
        family.secret_hash = hash_secret(secret)
        family.rotated_at = now
        family.expires_at = now + self._lifetime
        return Rotated(family.user_id, _written(family.id, secret))

    async def revoke(self, token: str) -> None:
        """End the family of a token, used or not. An unknown token is nothing to end."""
        family, _ = await self._find(token)
        if family is not None and family.revoked_at is None:
            _revoke(family, RevocationReason.LOGOUT, self._clock.now())

    async def revoke_all_of(self, user_id: UUID, reason: RevocationReason) -> None:
        await self._families.revoke_all_of(user_id, reason, self._clock.now())

    async def forget_expired(self) -> int:
        """Delete the families whose newest token has expired; returns how many."""
        return await self._families.delete_expired(self._clock.now())

    async def _find(self, token: str) -> tuple[RefreshFamily | None, str]:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None, ""
        return await self._families.lock(UUID(hex=match[1])), match[2]


def _new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _written(family_id: UUID, secret: str) -> str:
    return f"cqr_{family_id.hex}_{secret}"


def _revoke(family: RefreshFamily, reason: RevocationReason, now: datetime) -> None:
    family.revoked_at = now
    family.revoked_reason = reason.value
