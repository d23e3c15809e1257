"""Signing in to the admin pages with a browser.

A sign-in is a row beside those of refresh tokens, so all that ends them ends it too: a new password, a closed account,
the passing of time. The cookie names the row and is signed; nobody can make one, and knowing a row's id is no use.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, update

from chat_api.admin.desk import Admin, Desk
from chat_api.audit.service import AuditLog
from chat_api.auth.authenticator import ISSUER
from chat_api.auth.models import RefreshFamily, RevocationReason
from chat_api.kit.clock import Clock
from chat_api.users.models import User
from chat_api.users.passwords import PasswordHasher
from chat_api.users.repository import UserRepository
from shared.logging import get_logger
from shared.security import InvalidToken, KeyRing, TokenKind, TokenSigner

log = get_logger("admin")

MAX_NAME_CHARS = 320
MAX_PASSWORD_CHARS = 1024


def cookie_signer(secret_keys: KeyRing, lifetime: timedelta, clock: Clock) -> TokenSigner:
    return TokenSigner(
        secret_keys,
        kind=TokenKind.ADMIN_PAGES,
        issuer=ISSUER,
        audience=f"{ISSUER}-admin",
        lifetime=lifetime,
        now=lambda: clock.now().timestamp(),
    )


class AdminSignIns:
    """`lifetime` is that of a sign-in, from its beginning: using it does not make it longer."""

    def __init__(self, desk: Desk, passwords: PasswordHasher, signer: TokenSigner) -> None:
        self._desk = desk
        self._passwords = passwords
        self._signer = signer

    @property
    def lifetime(self) -> timedelta:
        return self._signer.lifetime

    async def sign_in(self, name: str, password: str) -> str | None:
        """The value of the cookie; None, after the same time and work, whatever was wrong."""
        if len(name) > MAX_NAME_CHARS or len(password) > MAX_PASSWORD_CHARS or "\x00" in name:
            return None
        async with self._desk.unit() as db:
            user = await UserRepository(db).by_name(name)
        may_enter = user is not None and user.is_active and user.is_admin
        stored = user.password_hash if user is not None and may_enter else None
        check = await self._passwords.check(password, stored)
        if user is None or not check.valid:
            log.info("admin.sign_in_refused")
            return None
        now = self._desk.clock.now()
        async with self._desk.unit() as db:
            current = await UserRepository(db).lock(user.id)
            if current is None or not (current.is_active and current.is_admin) or current.password_hash != stored:
                return None  # changed while the password was checked
            family = RefreshFamily(
                id=uuid.uuid4(),
                user_id=current.id,
                # Of a token that nobody was given: only the cookie is good for this sign-in.
                secret_hash=secrets.token_bytes(32),
                rotated_at=now,
                expires_at=now + self.lifetime,
            )
            db.add(family)
            await AuditLog(db, self._desk.clock).record(
                current.id, "admin.signed_in", subject_type="user", subject_id=current.id
            )
        return self._signer.mint(family.id.hex)

    async def current(self, cookie: str) -> Admin | None:
        """Who holds a cookie, if they may still see the pages. One statement, so that a right taken away counts now."""
        family_id = self._family(cookie)
        if family_id is None:
            return None
        holder = (
            select(User.id, User.username)
            .join(RefreshFamily, RefreshFamily.user_id == User.id)
            .where(
                RefreshFamily.id == family_id,
                RefreshFamily.revoked_at.is_(None),
                RefreshFamily.expires_at > self._desk.clock.now(),
                User.is_active,
                User.is_admin,
            )
        )
        async with self._desk.unit() as db:
            row = (await db.execute(holder)).one_or_none()
        return None if row is None else Admin(row.id, row.username)

    async def sign_out(self, admin: Admin, cookie: str) -> None:
        """End the sign-in for good: a copy of its cookie is worth nothing either."""
        end = (
            update(RefreshFamily)
            .where(RefreshFamily.id == self._family(cookie), RefreshFamily.revoked_at.is_(None))
            .values(revoked_at=self._desk.clock.now(), revoked_reason=RevocationReason.LOGOUT.value)
        )
        async with self._desk.unit() as db:
            await db.execute(end)
            await AuditLog(db, self._desk.clock).record(
                admin.id, "admin.signed_out", subject_type="user", subject_id=admin.id
            )

    def _family(self, cookie: str) -> UUID | None:
        try:
            return UUID(hex=self._signer.verify(cookie).subject)
        except (InvalidToken, ValueError):
            return None
