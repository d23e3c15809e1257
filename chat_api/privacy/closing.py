"""Closing one's account for good: at once for everybody who looks, and the rest as work for later."""

from __future__ import annotations

from uuid import UUID, uuid4

from chat_api.audit.service import AuditLog
from chat_api.auth.closed import NOTICED_EVERYWHERE, ClosedAccounts
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.outbox import Outbox
from chat_api.privacy.erasure import ERASE_TOPIC
from chat_api.privacy.repository import ErasureRepository
from chat_api.privacy.schemas import ErasureRead
from chat_api.users.errors import WrongPassword
from chat_api.users.passwords import PasswordHasher
from chat_api.users.repository import UserRepository
from shared.logging import get_logger
from shared.problems import NotAuthenticated

log = get_logger("privacy")

_WRONG = "Send your present password as `password`."


class AccountClosing:
    """Opens short units of its own, because no connection may be held while a password is checked."""

    def __init__(self, database: Database, passwords: PasswordHasher, closed: ClosedAccounts, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._closed = closed
        self._clock = clock

    async def erase(self, user_id: UUID, password: str) -> ErasureRead:
        """Close the account, end its sign-ins, keys and tickets, and have everything of theirs erased.

        Raises `WrongPassword`, and `NotAuthenticated` for an account that is closed already.
        """
        async with self._database.unit() as db:
            user = await UserRepository(db).get(user_id)
            stored = user.password_hash if user is not None and user.is_active else None
        if stored is None:
            raise NotAuthenticated("The account is closed.")
        if not (await self._passwords.check(password, stored)).valid:
            raise WrongPassword(_WRONG)
        now = self._clock.now()
        async with self._database.unit() as db:
            user = await UserRepository(db).lock(user_id)
            if user is None or not user.is_active:
                raise NotAuthenticated("The account is closed.")
            if user.password_hash != stored:
                raise WrongPassword(_WRONG)  # it was changed since we looked
            user.is_active = False
            user.erasure_requested_at = now
            user.updated_at = now
            await db.flush()
            await ErasureRepository(db).end_credentials(user_id)
            await AuditLog(db, self._clock).record(
                user_id, "account.erasure_requested", subject_type="user", subject_id=user_id
            )
            # Not before every process refuses what was signed in: nothing may be written behind the eraser's back.
            await Outbox(db).put(ERASE_TOPIC, user_id, {"stand_in": str(uuid4())}, after=NOTICED_EVERYWHERE)
        self._closed.add(user_id)
        log.info("account.closed", user_id=str(user_id))
        return ErasureRead(user_id=user_id, requested_at=now)
