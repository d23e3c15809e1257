"""Webhooks as their owners make, change and watch them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.outbox import Outbox
from chat_api.kit.pagination import Page, decode_cursor, encode_cursor
from chat_api.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from chat_api.webhooks.models import (
    DELIVER_TOPIC,
    TEST_EVENT,
    DeliveryStatus,
    DisabledReason,
    WebhookDelivery,
    WebhookEndpoint,
)
from chat_api.webhooks.repository import WebhookRepository
from chat_api.webhooks.schemas import (
    DeliveryProblem,
    DeliveryRead,
    WebhookCreate,
    WebhookPatch,
    WebhookRead,
    WebhookWithSecret,
)
from chat_api.webhooks.secrets import WebhookSecrets
from chat_api.webhooks.sender import checked_url
from chat_api.webhooks.signing import new_secret
from shared.logging import get_logger
from shared.problems import FieldError, ValidationFailed
from shared.web.addresses import AddressRefused

log = get_logger("webhooks")

MOST_OF_ONE_PERSON = 20
BOTH_SECRETS = timedelta(hours=24)
"""How long after a new secret what is sent is signed with the earlier one too."""


class WebhookService:
    def __init__(
        self, db: AsyncSession, clock: Clock, secrets: WebhookSecrets, internal_hosts: Collection[str]
    ) -> None:
        self._webhooks = WebhookRepository(db)
        self._outbox = Outbox(db)
        self._clock = clock
        self._secrets = secrets
        self._internal_hosts = internal_hosts

    async def create(self, user_id: UUID, wanted: WebhookCreate) -> WebhookWithSecret:
        """Raises `ValidationFailed` for an address that may not be called, `TooManyWebhooks`."""
        url = self._checked(wanted.url)
        if await self._webhooks.count_under_lock(user_id) >= MOST_OF_ONE_PERSON:
            raise TooManyWebhooks
        secret, now = new_secret(), self._clock.now()
        endpoint = WebhookEndpoint(
            id=new_id(),
            user_id=user_id,
            url=url,
            description=wanted.description,
            event_types=_words(wanted.event_types),
            secret=self._secrets.seal(secret),
            created_at=now,
            updated_at=now,
        )
        await self._webhooks.save(endpoint)
        log.info("webhook.created", user_id=user_id, webhook_id=endpoint.id)
        return WebhookWithSecret(**dict(_read(endpoint)), secret=secret)

    async def page(self, user_id: UUID, *, cursor: str | None, limit: int) -> Page[WebhookRead]:
        """Newest first. Raises `InvalidCursor`."""
        before: UUID | None = decode_cursor(cursor, UUID)[0] if cursor else None
        rows = await self._webhooks.page_of(user_id, before=before, limit=limit + 1)
        items = [_read(row) for row in rows[:limit]]
        return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(rows) > limit else None)

    async def read(self, user_id: UUID, webhook_id: UUID) -> WebhookRead:
        """Raises `WebhookNotFound`."""
        return _read(await self._get(user_id, webhook_id))

    async def change(self, user_id: UUID, webhook_id: UUID, patch: WebhookPatch) -> WebhookRead:
        """Change what was sent. Raises `WebhookNotFound`, `ValidationFailed`."""
        changed = patch.model_fields_set
        url = self._checked(patch.url) if "url" in changed else None
        endpoint = await self._get(user_id, webhook_id, lock=True)
        now = self._clock.now()
        if url is not None:
            endpoint.url = url
        if "description" in changed:
            endpoint.description = patch.description
        if "event_types" in changed:
            endpoint.event_types = _words(patch.event_types)
        if "enabled" in changed:
            if patch.enabled:
                endpoint.disabled_at = endpoint.disabled_reason = None
                endpoint.failures, endpoint.failing_since, endpoint.paused_until = 0, None, None
            elif endpoint.disabled_at is None:
                endpoint.disabled_at, endpoint.disabled_reason = now, DisabledReason.OWNER.value
        endpoint.updated_at = now
        await self._webhooks.save(endpoint)
        log.info("webhook.changed", user_id=user_id, webhook_id=webhook_id, fields=sorted(changed))
        return _read(endpoint)

    async def remove(self, user_id: UUID, webhook_id: UUID) -> None:
        """With the log of its deliveries. Raises `WebhookNotFound`."""
        if not await self._webhooks.remove(user_id, webhook_id):
            raise WebhookNotFound
        log.info("webhook.deleted", user_id=user_id, webhook_id=webhook_id)

    async def rotate_secret(self, user_id: UUID, webhook_id: UUID) -> WebhookWithSecret:
        """A new secret. For a day both sign. Raises `WebhookNotFound`."""
        endpoint = await self._get(user_id, webhook_id, lock=True)
        secret, now = new_secret(), self._clock.now()
        endpoint.previous_secret, endpoint.previous_secret_until = endpoint.secret, now + BOTH_SECRETS
        endpoint.secret = self._secrets.seal(secret)
        endpoint.updated_at = now
        await self._webhooks.save(endpoint)
        log.info("webhook.secret_rotated", user_id=user_id, webhook_id=webhook_id)
        return WebhookWithSecret(**dict(_read(endpoint)), secret=secret)

    async def send_test(self, user_id: UUID, webhook_id: UUID) -> DeliveryRead:
        """Have the endpoint told of nothing. Raises `WebhookNotFound`, `WebhookDisabled`."""
        endpoint = await self._open(user_id, webhook_id)
        delivery = WebhookDelivery(id=new_id(), endpoint_id=endpoint.id, type=TEST_EVENT, created_at=self._clock.now())
        await self._webhooks.add_delivery(delivery)
        await self._outbox.put(DELIVER_TOPIC, delivery.id)
        return _read_delivery(delivery)

    async def deliveries(
        self, user_id: UUID, webhook_id: UUID, *, status: DeliveryStatus | None, cursor: str | None, limit: int
    ) -> Page[DeliveryRead]:
        """Newest first. Raises `WebhookNotFound`, `InvalidCursor`."""
        before: UUID | None = decode_cursor(cursor, UUID)[0] if cursor else None
        endpoint = await self._get(user_id, webhook_id)
        rows = await self._webhooks.deliveries_of(endpoint.id, status=status, before=before, limit=limit + 1)
        items = [_read_delivery(row) for row in rows[:limit]]
        return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(rows) > limit else None)

    async def redeliver(self, user_id: UUID, webhook_id: UUID, delivery_id: UUID) -> DeliveryRead:
        """Tell it again, with the same id. Raises `WebhookNotFound`, `DeliveryNotFound`, `DeliveryPending`,
        `WebhookDisabled`.
        """
        endpoint = await self._open(user_id, webhook_id)
        delivery = await self._webhooks.lock_delivery(endpoint.id, delivery_id)
        if delivery is None:
            raise DeliveryNotFound
        if delivery.status == DeliveryStatus.PENDING:
            raise DeliveryPending
        delivery.status, delivery.attempts = DeliveryStatus.PENDING.value, 0
        delivery.finished_at = delivery.next_attempt_at = None
        await self._webhooks.add_delivery(delivery)
        await self._outbox.put(DELIVER_TOPIC, delivery.id)
        log.info("webhook.redelivered", user_id=user_id, webhook_id=webhook_id, delivery_id=delivery_id)
        return _read_delivery(delivery)

    async def _get(self, user_id: UUID, webhook_id: UUID, *, lock: bool = False) -> WebhookEndpoint:
        endpoint = await self._webhooks.get(user_id, webhook_id, lock=lock)
        if endpoint is None:
            raise WebhookNotFound
        return endpoint

    async def _open(self, user_id: UUID, webhook_id: UUID) -> WebhookEndpoint:
        """One that is told something, at once: somebody asks for it who believes that it works again."""
        endpoint = await self._get(user_id, webhook_id, lock=True)
        if endpoint.disabled_at is not None:
            raise WebhookDisabled
        endpoint.paused_until = None
        return endpoint

    def _checked(self, url: str) -> str:
        try:
            return checked_url(url, self._internal_hosts)
        except AddressRefused as refusal:
            raise ValidationFailed(errors=[FieldError(loc=["body", "url"], msg=str(refusal), type="url")]) from None


def _words(event_types: Collection[str]) -> list[str]:
    return sorted({str(event_type) for event_type in event_types})


def _read(endpoint: WebhookEndpoint) -> WebhookRead:
    return WebhookRead.model_validate(
        {
            "id": endpoint.id,
            "url": endpoint.url,
            "description": endpoint.description,
            "event_types": endpoint.event_types,
            "enabled": endpoint.disabled_at is None,
            "disabled_reason": endpoint.disabled_reason,
            "failing_since": endpoint.failing_since,
            "created_at": endpoint.created_at,
            "updated_at": endpoint.updated_at,
        }
    )


def _read_delivery(delivery: WebhookDelivery) -> DeliveryRead:
    return DeliveryRead(
        id=delivery.id,
        webhook_id=delivery.endpoint_id,
        session_id=delivery.session_id,
        event_seq=delivery.event_seq,
        type=delivery.type,
        status=DeliveryStatus(delivery.status),
        attempts=delivery.attempts,
        response_status=delivery.response_status,
        problem=None if delivery.problem is None else DeliveryProblem.model_validate(delivery.problem),
        duration_ms=delivery.duration_ms,
        next_attempt_at=delivery.next_attempt_at,
        created_at=delivery.created_at,
        finished_at=delivery.finished_at,
    )
