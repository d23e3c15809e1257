"""The SQL of credentials. Time is handed in, never read here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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

# One statement, so that of two uses at once only one finds the row. What was used up is gone, and what may no longer
# be used (the account is closed, the key was revoked since) stays until it expires.
_USE_TICKET = """
DELETE FROM chat.ws_tickets t USING chat.users u
WHERE t.ticket_hash = $1 AND t.expires_at > $2 AND u.id = t.user_id AND u.is_active
  AND (t.api_key_id IS NULL OR EXISTS (
      SELECT 1 FROM chat.api_keys k
      WHERE k.id = t.api_key_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)))
RETURNING t.user_id, t.api_key_id, t.scopes
"""

# No row for a closed account or a key that was revoked since it was verified.
_ADD_TICKET = """
INSERT INTO chat.ws_tickets (ticket_hash, user_id, api_key_id, scopes, expires_at)
SELECT $1, u.id, $3, $4, $5 FROM chat.users u WHERE u.id = $2 AND u.is_active
  AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM chat.api_keys k WHERE k.id = $3 AND k.revoked_at IS NULL))
RETURNING true
"""

_FORGET_TICKETS = """
WITH gone AS (DELETE FROM chat.ws_tickets WHERE expires_at <= $1 RETURNING 1) SELECT count(*) AS tickets FROM gone
"""

_LIVE = """
SELECT a.user_id, a.api_key_id
FROM unnest($1::uuid[], $2::uuid[]) AS a (user_id, api_key_id)
JOIN chat.users u ON u.id = a.user_id AND u.is_active
WHERE a.api_key_id IS NULL OR EXISTS (
    SELECT 1 FROM chat.api_keys k
    WHERE k.id = a.api_key_id AND k.user_id = a.user_id AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > $3))
"""

_CLOSED = """
SELECT id, is_active FROM chat.users WHERE NOT is_active AND updated_at > $1
UNION ALL
SELECT id, is_active FROM chat.users WHERE is_active AND id = ANY($2::uuid[])
"""
"""($1 moment, $2 people) → who is closed and was not before that moment, and which of these are open."""

_IS_ADMIN = "SELECT is_admin FROM chat.users WHERE id = $1 AND is_active"


@dataclass(frozen=True, slots=True)
class KeyOwner:
    user_id: UUID
    scopes: Sequence[str]


async def use_key(database: Database, key_id: UUID, secret_hash: bytes, now: datetime) -> KeyOwner | None:
    """Whom a live key belongs to; None for a key that is unknown, revoked, expired, or of a closed account."""
    row = await database.fetch_row(_USE_KEY, key_id, secret_hash, now)
    return None if row is None else KeyOwner(user_id=row["user_id"], scopes=row["scopes"])


@dataclass(frozen=True, slots=True)
class TicketHolder:
    user_id: UUID
    api_key_id: UUID | None
    scopes: Sequence[str]


async def add_ticket(database: Database, ticket_hash: bytes, holder: TicketHolder, expires_at: datetime) -> bool:
    """Whether its holder may still have one."""
    scopes = list(holder.scopes)
    row = await database.fetch_row(_ADD_TICKET, ticket_hash, holder.user_id, holder.api_key_id, scopes, expires_at)
    return row is not None


async def use_ticket(database: Database, ticket_hash: bytes, now: datetime) -> TicketHolder | None:
    """Whom a live ticket was made for, once; None for one that is unknown, used, expired, or whose holder may not."""
    row = await database.fetch_row(_USE_TICKET, ticket_hash, now)
    if row is None:
        return None
    return TicketHolder(user_id=row["user_id"], api_key_id=row["api_key_id"], scopes=row["scopes"])


async def forget_tickets(database: Database, now: datetime) -> int:
    row = await database.fetch_row(_FORGET_TICKETS, now)
    return 0 if row is None else int(row["tickets"])


async def live_holders(
    database: Database, holders: Collection[tuple[UUID, UUID | None]], now: datetime
) -> set[tuple[UUID, UUID | None]]:
    """Of pairs of a person and their API key, or None for a sign-in, those that may still be used."""
    users, keys = [user for user, _ in holders], [key for _, key in holders]
    rows = await database.fetch_rows(_LIVE, users, keys, now)
    return {(row["user_id"], row["api_key_id"]) for row in rows}


async def closed_since(database: Database, moment: datetime, known: Sequence[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Accounts that were closed after `moment`; and of the known ones those that are open."""
    # Beside what requests wait for: a process that is busy must hear of it as well.
    rows = await database.fetch_events(_CLOSED, moment, known)
    closed = {row["id"] for row in rows if not row["is_active"]}
    return closed, {row["id"] for row in rows if row["is_active"]}


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
