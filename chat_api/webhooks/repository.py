"""Statements about webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.webhooks.models import DeliveryStatus, WebhookDelivery, WebhookEndpoint

_LOCK_OWNER = text("SELECT 1 FROM chat.users WHERE id = :user_id FOR NO KEY UPDATE")


class WebhookRepository:
    """The owner's side. Everything is asked for with its owner: what is somebody else's is not there."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def count_under_lock(self, user_id: UUID) -> int:
        """How many the person has, and nobody adds one before this unit ends."""
        await self._db.execute(_LOCK_OWNER, {"user_id": user_id})
        statement = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.user_id == user_id)
        return (await self._db.execute(statement)).scalar_one()

    async def save(self, endpoint: WebhookEndpoint) -> None:
        self._db.add(endpoint)
        await self._db.flush()

    async def get(self, user_id: UUID, endpoint_id: UUID, *, lock: bool = False) -> WebhookEndpoint | None:
        statement = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.user_id == user_id)
        if lock:
            statement = statement.with_for_update()
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def page_of(self, user_id: UUID, *, before: UUID | None, limit: int) -> Sequence[WebhookEndpoint]:
        """Newest first. Ids rise with time, so they are the sort key."""
        statement = select(WebhookEndpoint).where(WebhookEndpoint.user_id == user_id)
        if before is not None:
            statement = statement.where(WebhookEndpoint.id < before)
        return (await self._db.execute(statement.order_by(WebhookEndpoint.id.desc()).limit(limit))).scalars().all()

    async def remove(self, user_id: UUID, endpoint_id: UUID) -> bool:
        """Whether there was one. Its deliveries go with it."""
        statement = (
            delete(WebhookEndpoint)
            .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.user_id == user_id)
            .returning(WebhookEndpoint.id)
        )
        return (await self._db.execute(statement)).scalar_one_or_none() is not None

    async def add_delivery(self, delivery: WebhookDelivery) -> None:
        self._db.add(delivery)
        await self._db.flush()
        await self._db.refresh(delivery)

    async def lock_delivery(self, endpoint_id: UUID, delivery_id: UUID) -> WebhookDelivery | None:
        statement = (
            select(WebhookDelivery)
            .where(WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint_id)
            .with_for_update()
        )
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def deliveries_of(
        self, endpoint_id: UUID, *, status: DeliveryStatus | None, before: UUID | None, limit: int
    ) -> Sequence[WebhookDelivery]:
        statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        if status is not None:
            statement = statement.where(WebhookDelivery.status == status.value)
        if before is not None:
            statement = statement.where(WebhookDelivery.id < before)
        return (await self._db.execute(statement.order_by(WebhookDelivery.id.desc()).limit(limit))).scalars().all()


class SealedSecrets:
    """The operator's side: what has to be sealed anew after a change of keys, of everybody's webhooks."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def count(self) -> int:
        return (await self._db.execute(select(func.count()).select_from(WebhookEndpoint))).scalar_one()

    async def after(self, endpoint_id: UUID | None, limit: int) -> Sequence[WebhookEndpoint]:
        """The next ones in the order of their ids."""
        statement = select(WebhookEndpoint).order_by(WebhookEndpoint.id).limit(limit)
        if endpoint_id is not None:
            statement = statement.where(WebhookEndpoint.id > endpoint_id)
        return (await self._db.execute(statement)).scalars().all()

    async def lock(self, endpoint_id: UUID) -> WebhookEndpoint | None:
        statement = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).with_for_update()
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def write(self, endpoint_id: UUID, *, secret: bytes, previous_secret: bytes | None) -> None:
        """The owner changed nothing, so `updated_at` stays what it was."""
        await self._db.execute(
            update(WebhookEndpoint)
            .where(WebhookEndpoint.id == endpoint_id)
            .values(secret=secret, previous_secret=previous_secret, updated_at=WebhookEndpoint.updated_at)
        )


class DeliveryRepository:
    """The worker's side. Each write is in a unit that holds or settles the job."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def find(self, delivery_id: UUID) -> tuple[WebhookDelivery, WebhookEndpoint] | None:
        """A delivery that is still to be made, and to whom."""
        statement = (
            select(WebhookDelivery, WebhookEndpoint)
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .where(WebhookDelivery.id == delivery_id, WebhookDelivery.status == DeliveryStatus.PENDING.value)
        )
        row = (await self._db.execute(statement)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def write(self, delivery_id: UUID, **values: Any) -> None:
        await self._db.execute(update(WebhookDelivery).where(WebhookDelivery.id == delivery_id).values(**values))

    async def lock_endpoint(self, endpoint_id: UUID) -> WebhookEndpoint | None:
        statement = (
            select(WebhookEndpoint)
            .where(WebhookEndpoint.id == endpoint_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def forget_before(self, moment: datetime) -> int:
        """Delete what ended before."""
        statement = delete(WebhookDelivery).where(WebhookDelivery.finished_at < moment).returning(WebhookDelivery.id)
        return len((await self._db.execute(statement)).all())
