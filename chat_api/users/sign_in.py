"""Signing in and out: passwords for tokens, tokens for newer tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never
from uuid import UUID

from chat_api.auth.authenticator import Authenticator
from chat_api.auth.errors import InvalidCredentials, InvalidRefreshToken, RefreshTokenReused
from chat_api.auth.refresh import RefreshTokens, Refusal, Rotated
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.users.passwords import PasswordHasher
from chat_api.users.repository import UserRepository
from chat_api.users.schemas import Tokens
from shared.logging import get_logger

log = get_logger("auth")


class SignInService:
    """Opens short units of its own: none is held while a password is checked, and a refusal commits too."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        passwords: PasswordHasher,
        clock: Clock,
        *,
        refresh_lifetime: timedelta,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._passwords = passwords
        self._clock = clock
        self._refresh_lifetime = refresh_lifetime

    async def sign_in(self, name: str, password: str) -> Tokens:
        """Raises `InvalidCredentials`, after the same time and work whatever was wrong."""
        async with self._database.unit() as db:
            user = await UserRepository(db).by_name(name)
        stored = user.password_hash if user is not None and user.is_active else None
        check = await self._passwords.check(password, stored)
        if user is None or not check.valid:
            log.info("sign_in.refused")
            raise InvalidCredentials
        async with self._database.unit() as db:
            current = await UserRepository(db).lock(user.id)
            if current is None or not current.is_active or current.password_hash != stored:
                raise InvalidCredentials  # closed or changed while the password was checked
            if check.new_hash is not None:
                current.password_hash = check.new_hash
                log.info("password.rehashed", user_id=user.id)
            refresh_token = await RefreshTokens(db, self._clock, self._refresh_lifetime).start(user.id)
        log.info("sign_in.accepted", user_id=user.id)
        return self._tokens(user.id, refresh_token)

    async def refresh(self, token: str) -> Tokens:
        """Raises `InvalidRefreshToken`, or `RefreshTokenReused` after the family's end is committed."""
        async with self._database.unit() as db:
            outcome = await RefreshTokens(db, self._clock, self._refresh_lifetime).rotate(token)
        match outcome:
            case Rotated():
                return self._tokens(outcome.user_id, outcome.token)
            case Refusal.REUSED:
                raise RefreshTokenReused
            case Refusal.INVALID:
                raise InvalidRefreshToken
            case _:
                assert_never(outcome)

    async def sign_out(self, token: str) -> None:
        async with self._database.unit() as db:
            await RefreshTokens(db, self._clock, self._refresh_lifetime).revoke(token)

    def _tokens(self, user_id: UUID, refresh_token: str) -> Tokens:
        return Tokens(
            access_token=self._authenticator.mint_access_token(user_id),
            refresh_token=refresh_token,
            token_type="bearer",  # noqa: S106 - OAuth2's name for the kind
            expires_in=self._authenticator.access_token_seconds,
        )
