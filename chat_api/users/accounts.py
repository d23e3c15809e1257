"""Registration, and what a person changes about their own account."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from chat_api.auth.models import RevocationReason
from chat_api.auth.refresh import RefreshTokens
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database
from chat_api.users.errors import WrongPassword
from chat_api.users.models import User
from chat_api.users.passwords import Argon2PasswordHasher, PasswordHasher
from chat_api.users.repository import UserRepository
from chat_api.users.schemas import Registration, UserPatch, UserRead
from shared.logging import get_logger
from shared.problems import NotAuthenticated

log = get_logger("users")


class AccountService:
    """Opens short units of its own, because no connection may be held while a password is hashed."""

    def __init__(self, database: Database, passwords: PasswordHasher, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock

    async def register(self, wanted: Registration, *, is_admin: bool = False) -> UserRead:
        """Raises `EmailTaken` or `UsernameTaken`."""
        password_hash = await self._passwords.hash(wanted.password)
        now = self._clock.now()
        async with self._database.unit() as db:
            user = User(
                email=wanted.email,
                username=wanted.username,
                password_hash=password_hash,
                user_type=wanted.user_type.value,
                is_admin=is_admin,
                created_at=now,
                updated_at=now,
            )
            await UserRepository(db).save(user)
            log.info("user.registered", user_id=user.id, is_admin=is_admin)
            return UserRead.model_validate(user)

    async def read(self, user_id: UUID) -> UserRead:
        """Raises `NotAuthenticated` for an account that was closed after its token was made."""
        async with self._database.unit() as db:
            user = await UserRepository(db).get(user_id)
            return UserRead.model_validate(_still_open(user))

    async def change(self, user_id: UUID, patch: UserPatch) -> UserRead:
        """Change what was sent. A new password ends every sign-in.

        Raises `WrongPassword`, `EmailTaken`, `UsernameTaken`, `NotAuthenticated`.
        """
        changed = patch.model_fields_set
        checked_hash: str | None = None
        if patch.needs_password:
            checked_hash = await self._check_password(user_id, patch.current_password)
        new_hash = await self._passwords.hash(patch.password) if "password" in changed else None
        async with self._database.unit() as db:
            users = UserRepository(db)
            user = _still_open(await users.lock(user_id))
            if checked_hash is not None and user.password_hash != checked_hash:
                raise WrongPassword  # it was changed since we looked
            if "email" in changed:
                user.email = patch.email
            if "username" in changed:
                user.username = patch.username
            if new_hash is not None:
                user.password_hash = new_hash
            user.updated_at = self._clock.now()
            await users.save(user)
            if new_hash is not None:
                # The row lock makes a sign-in with the old password come before this, or fail.
                await RefreshTokens(db, self._clock, timedelta(0)).revoke_all_of(
                    user_id, RevocationReason.PASSWORD_CHANGED
                )
            log.info("user.changed", user_id=user_id, fields=sorted(changed - {"current_password"}))
            return UserRead.model_validate(user)

    async def _check_password(self, user_id: UUID, password: str) -> str:
        async with self._database.unit() as db:
            stored = _still_open(await UserRepository(db).get(user_id)).password_hash
        if not (await self._passwords.check(password, stored)).valid:
            raise WrongPassword
        return stored


def _still_open(user: User | None) -> User:
    if user is None or not user.is_active:
        raise NotAuthenticated("The account is closed.")
    return user


async def create_admin(settings: ApiSettings, email: str, username: str, password: str) -> UserRead:
    """Register an administrator, for the command line.

    Raises pydantic's `ValidationError` for what registration would refuse, `EmailTaken`, `UsernameTaken`.
    """
    wanted = Registration(email=email, username=username, password=password)
    passwords = Argon2PasswordHasher(at_a_time=1)
    database = await Database.open(settings)
    try:
        return await AccountService(database, passwords, SystemClock()).register(wanted, is_admin=True)
    finally:
        await database.close()
        passwords.close()
