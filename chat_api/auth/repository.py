"""The SQL of credentials. Time is handed in, never read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, Uuid, column, delete, select, table, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth.models import ApiKey, RefreshFamily, RevocationReason
from chat_api.kit.db import Database
from chat_api.kit.models import SCHEMA

# One statement on the hot path of every call with an API key: it checks the key and its owner, and
# notes the use at most once a minute, so that a busy key does not write a row per request.
_USE_KEY = """
WITH key AS (
    SELECT k.id, k.user_id, k.scopes
    FROM chat.api_keys k JOIN chat.users u ON u.id = k.user_id
    WHERE k.id = $1 AND k.secret_hash = $2 AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > $3) AND u.is_active
), used AS (
    UPDATE chat.api_keys k SET last_used_at = $3
    FROM key WHERE k.id = key.id AND (k.last_used_at IS NULL OR k.last_used_at < $3 - interval '1 minute')
)
SELECT user_id, scopes FROM key
"""

# The two columns of people that credentials depend on; the table itself belongs to the layer above.
_users = table(
    "users", column("id", Uuid()), column("is_active", Boolean()), column("is_admin", Boolean()), schema=SCHEMA
)

_IS_ADMIN = "SELECT is_admin FROM chat.users WHERE id = $1 AND is_active"


@dataclass(frozen=True, slots=True)
class KeyOwner:
    user_id: UUID
    scopes: Sequence[str]


async def use_key(database: Database, key_id: UUID, secret_hash: bytes, now: datetime) -> KeyOwner | None:
    """Whom a live key belongs to; None for a key that is unknown, revoked, expired, or of a closed account."""
    row = await database.fetch_row(_USE_KEY, key_id, secret_hash, now)
    return None if row is None else KeyOwner(user_id=row["user_id"], scopes=row["scopes"])


async def is_admin(database: Database, user_id: UUID) -> bool:
    row = await database.fetch_row(_IS_ADMIN, user_id)
    return row is not None and bool(row["is_admin"])


class RefreshFamilyRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def add(self, family: RefreshFamily) -> None:
        self._db.add(family)
        await self._db.flush()

    async def lock(self, family_id: UUID) -> RefreshFamily | None:
        """The family, held until the unit of work ends: of two concurrent rotations one sees the other's."""
        statement = select(RefreshFamily).where(RefreshFamily.id == family_id).with_for_update()
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def owner_is_active(self, family: RefreshFamily) -> bool:
        statement = select(_users.c.is_active).where(_users.c.id == family.user_id)
        return bool((await self._db.execute(statement)).scalar_one_or_none())

    async def revoke_all_of(self, user_id: UUID, reason: RevocationReason, now: datetime) -> None:
        await self._db.execute(
            update(RefreshFamily)
            .where(RefreshFamily.user_id == user_id, RefreshFamily.revoked_at.is_(None))
            .values(revoked_at=now, revoked_reason=reason.value)
        )

    async def delete_expired(self, moment: datetime) -> int:
        result = await self._db.execute(
            delete(RefreshFamily).where(RefreshFamily.expires_at < moment).returning(RefreshFamily.id)
        )
        return len(result.all())


class ApiKeyRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def add(self, key: ApiKey) -> None:
        self._db.add(key)
        await self._db.flush()

    async def owner_is_admin(self, user_id: UUID) -> bool:
        statement = select(_users.c.is_admin).where(_users.c.id == user_id, _users.c.is_active)
        return bool((await self._db.execute(statement)).scalar_one_or_none())

    async def page_of(self, user_id: UUID, *, before: UUID | None, limit: int) -> Sequence[ApiKey]:
        """Live keys, newest first. Ids rise with time, so they are the sort key."""
        statement = select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        if before is not None:
            statement = statement.where(ApiKey.id < before)
        return (await self._db.execute(statement.order_by(ApiKey.id.desc()).limit(limit))).scalars().all()

    async def revoke(self, user_id: UUID, key_id: UUID, now: datetime) -> bool:
        """Whether there was a live key of this person to revoke."""
        result = await self._db.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(ApiKey.id)
        )
        return result.scalar_one_or_none() is not None
