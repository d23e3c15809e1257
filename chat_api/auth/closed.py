"""Accounts that were closed while an access token of theirs may still be good.

Access tokens are verified without a statement, so each process asks once a second who was closed. The process in which
an account is closed knows at once. The ids stay for as long as a token may, also when the account is erased meanwhile.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

from chat_api.auth import repository
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database, is_store_down
from shared.logging import get_logger

log = get_logger("auth.closed")

LOOK_SECONDS = 1.0

NOTICED_EVERYWHERE = timedelta(seconds=5)
"""After so long every process that can write refuses the tokens of a closed account."""

_SLACK = timedelta(minutes=1)
"""Clocks of processes differ, and a token is good for a moment longer than it says."""


class ClosedAccounts:
    """One per process. `start` it before use, `close` it at the end."""

    def __init__(
        self, database: Database, clock: Clock, token_lifetime: timedelta, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._kept = token_lifetime + _SLACK
        self._look_seconds = look_seconds
        self._until: dict[UUID, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, user_id: UUID) -> bool:
        return user_id in self._until

    def add(self, user_id: UUID) -> None:
        """Refuse the person's tokens here from now on. Call it when the closing is committed."""
        self._until[user_id] = self._clock.now() + self._kept

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="closed-accounts")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Ask once. An account that was opened again may be used again."""
        now = self._clock.now()
        closed, opened = await repository.closed_since(self._database, now - self._kept, list(self._until))
        self._until = {user_id: until for user_id, until in self._until.items() if until > now}
        for user_id in opened:
            self._until.pop(user_id, None)
        for user_id in closed - self._until.keys():
            self._until[user_id] = now + self._kept

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the only one that looks must not die of one bad round
                # With the store away nobody can write either.
                level = log.warning if is_store_down(error) else log.error
                level("closed_accounts.look_failed", error=type(error).__name__)
            await asyncio.sleep(self._look_seconds)
