"""After a change of the installation's secret key: the stored secrets of webhooks, sealed anew with the current one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.webhooks.errors import SecretUnreadable
from chat_api.webhooks.models import WebhookEndpoint
from chat_api.webhooks.repository import SealedSecrets
from chat_api.webhooks.secrets import WebhookSecrets
from shared.logging import get_logger

log = get_logger("webhooks")

_READ_AT_ONCE = 200


@dataclass(slots=True)
class Resealed:
    """What came of it. `rewritten` and `current` count secrets; a webhook has two for a day after it got a new one."""

    rewritten: int = 0
    current: int = 0
    unreadable: list[UUID] = field(default_factory=list)
    """Webhooks with a secret in use that no accepted key opens."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    secret: bytes
    previous_secret: bytes | None
    rewritten: int
    current: int
    is_unreadable: bool


class Resealing:
    """Works beside everything else: one row is locked at a time, for as long as it takes to write it.

    What is under the current key already is left alone, so it may be stopped and run again. What cannot be read stays
    as it is: with the right key among the accepted ones it is readable again.
    """

    def __init__(self, database: Database, secrets: WebhookSecrets, clock: Clock) -> None:
        self._database = database
        self._secrets = secrets
        self._clock = clock

    async def count(self) -> int:
        """How many webhooks there are to look at."""
        async with self._database.unit() as db:
            return await SealedSecrets(db).count()

    async def run(self, on_looked_at: Callable[[int], None]) -> Resealed:
        """`on_looked_at` hears how many webhooks more were looked at."""
        done = Resealed()
        after: UUID | None = None
        while True:
            async with self._database.unit() as db:
                batch = await SealedSecrets(db).after(after, _READ_AT_ONCE)
            if not batch:
                log.info(
                    "webhooks.resealed",
                    rewritten=done.rewritten,
                    current=done.current,
                    unreadable=len(done.unreadable),
                )
                return done
            for endpoint in batch:
                await self._one(endpoint, done)
            after = batch[-1].id
            on_looked_at(len(batch))

    async def _one(self, seen: WebhookEndpoint, done: Resealed) -> None:
        sealed: _Sealed | None = self._sealed(seen)
        if sealed is not None and sealed.rewritten:
            sealed = await self._write(seen.id)
        if sealed is None:
            return  # deleted meanwhile
        done.rewritten += sealed.rewritten
        done.current += sealed.current
        if sealed.is_unreadable:
            done.unreadable.append(seen.id)

    async def _write(self, endpoint_id: UUID) -> _Sealed | None:
        async with self._database.unit() as db:
            secrets = SealedSecrets(db)
            endpoint = await secrets.lock(endpoint_id)
            if endpoint is None:
                return None
            # Looked at again under the lock: its owner may have made a new secret since.
            sealed = self._sealed(endpoint)
            await secrets.write(endpoint_id, secret=sealed.secret, previous_secret=sealed.previous_secret)
        return sealed

    def _sealed(self, endpoint: WebhookEndpoint) -> _Sealed:
        secret, previous = endpoint.secret, endpoint.previous_secret
        new_secret = self._resealed(secret)
        new_previous = None if previous is None else self._resealed(previous)
        pairs = [(secret, new_secret), (previous, new_previous)]
        return _Sealed(
            secret=secret if new_secret is None else new_secret,
            previous_secret=previous if new_previous is None else new_previous,
            rewritten=sum(new is not None and new != old for old, new in pairs),
            current=sum(new is not None and new == old for old, new in pairs),
            is_unreadable=new_secret is None or (new_previous is None and self._is_in_use(endpoint)),
        )

    def _resealed(self, sealed: bytes) -> bytes | None:
        try:
            return self._secrets.resealed(sealed)
        except SecretUnreadable:
            return None

    def _is_in_use(self, endpoint: WebhookEndpoint) -> bool:
        """Whether the earlier secret still signs."""
        until: datetime | None = endpoint.previous_secret_until
        return endpoint.previous_secret is not None and until is not None and until > self._clock.now()
