"""How much somebody may store: counted from what is there, while nothing else of theirs can be added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.config import Plan
from chat_api.plans.errors import DocumentQuotaExceeded, StorageQuotaExceeded
from chat_api.plans.people import PlansOfPeople

STORED = """
    SELECT d.documents, d.bytes + a.bytes AS bytes
    FROM (
        SELECT count(*) AS documents, coalesce(sum(d.size_bytes), 0)::bigint AS bytes
        FROM chat.bots b JOIN chat.documents d ON d.bot_id = b.id
        WHERE b.owner_id = {person} AND b.deleted_at IS NULL AND d.deleted_at IS NULL
    ) d, (
        SELECT coalesce(sum(size_bytes), 0)::bigint AS bytes FROM chat.attachments WHERE owner_id = {person}
    ) a
"""
"""What a person has stored. Who uploads a document owns its bot."""

_STORED = text(STORED.format(person=":user_id"))
_LOCK = text("SELECT plan FROM chat.users WHERE id = :user_id FOR NO KEY UPDATE")


@dataclass(frozen=True, slots=True)
class Stored:
    """Live documents, and the bytes of them and of attachments."""

    documents: int
    bytes: int


class StorageQuota:
    """Of one person, within the unit of work that stores something of theirs."""

    def __init__(self, db: AsyncSession, plans: PlansOfPeople, user_id: UUID) -> None:
        self._db = db
        self._plans = plans
        self._person: dict[str, Any] = {"user_id": user_id}
        self._plan: Plan | None = None

    async def lock(self) -> None:
        """Have everything else of theirs that is to be stored wait, until the unit ends. Call it before adding."""
        name = (await self._db.execute(_LOCK, self._person)).scalar_one_or_none()
        if name is not None:
            self._plan = self._plans.named(name)

    async def check(self) -> None:
        """Call it after adding documents. Raises `DocumentQuotaExceeded` and `StorageQuotaExceeded`: undo the unit."""
        plan = self._plan
        if plan is None or (plan.documents is None and plan.storage_bytes is None):
            return
        stored = await self._stored()
        if plan.documents is not None and stored.documents > plan.documents:
            raise DocumentQuotaExceeded(f"Your plan allows {plan.documents} documents. Nothing was stored.")
        _check_bytes(plan, stored)

    async def check_bytes(self) -> None:
        """Call it after adding what is no document. Raises `StorageQuotaExceeded`: undo the unit."""
        if self._plan is not None and self._plan.storage_bytes is not None:
            _check_bytes(self._plan, await self._stored())

    async def _stored(self) -> Stored:
        row = (await self._db.execute(_STORED, self._person)).one()
        return Stored(row.documents, row.bytes)


def _check_bytes(plan: Plan, stored: Stored) -> None:
    if plan.storage_bytes is not None and stored.bytes > plan.storage_bytes:
        raise StorageQuotaExceeded(f"Your plan allows {plan.storage_bytes} bytes. Nothing was stored.")
