"""Routes of webhooks."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status

from chat_api.auth.dependencies import TheSeal
from chat_api.auth.errors import InsufficientScope
from chat_api.auth.permissions import AccountHolder
from chat_api.kit.dependencies import Cursor, Db, Limit
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.webhooks.dependencies import Webhooks
from chat_api.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from chat_api.webhooks.models import DeliveryStatus
from chat_api.webhooks.schemas import DeliveryRead, WebhookCreate, WebhookPatch, WebhookRead, WebhookWithSecret
from shared.problems import MalformedRequest, NotAuthenticated, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/webhooks", tags=["Webhooks"])

_ALWAYS = (NotAuthenticated, InsufficientScope, ServiceUnavailable, ValidationFailed)
_BODY = (MalformedRequest, PayloadTooLarge)
_NO_STORE = {"Cache-Control": "no-store"}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=WebhookWithSecret,
    summary="Make a webhook",
    description=(
        "From now on the address is told of the events of the sessions that the caller owns, as Standard Webhooks has "
        "it. The secret is in this answer and nowhere else. Needs a person who signed in, or an administrator's API "
        "key with `admin`: whoever has a webhook reads along."
    ),
    responses=problems(*_ALWAYS, *_BODY, TooManyWebhooks, IdempotencyKeyReused),
)
async def create_webhook(
    *,
    request: Request,
    actor: AccountHolder,
    body: WebhookCreate,
    db: Db,
    webhooks: Webhooks,
    seal: TheSeal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    answer = await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=idempotency_key,
        body=body,
        create=lambda: webhooks.create(actor.user_id, body),
        seal=seal,
    )
    answer.headers.update(_NO_STORE)
    return answer


@router.get(
    "",
    response_model=Page[WebhookRead],
    summary="List my webhooks",
    description="Newest first, without their secrets.",
    responses=problems(*_ALWAYS, InvalidCursor),
)
async def list_webhooks(
    actor: AccountHolder, webhooks: Webhooks, cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookRead]:
    return await webhooks.page(actor.user_id, cursor=cursor, limit=limit)


@router.get(
    "/{webhook_id}",
    response_model=WebhookRead,
    summary="A webhook of mine",
    description="Whether it works: `failing_since` is when the first attempt failed of which none succeeded since.",
    responses=problems(*_ALWAYS, WebhookNotFound),
)
async def read_webhook(actor: AccountHolder, webhook_id: UUID, webhooks: Webhooks) -> WebhookRead:
    return await webhooks.read(actor.user_id, webhook_id)


@router.patch(
    "/{webhook_id}",
    response_model=WebhookRead,
    summary="Change a webhook",
    description=(
        "Only the fields that are sent are changed. What was stored before is told to the new address. While it is "
        "disabled nothing is stored for it, and what still waited is cancelled."
    ),
    responses=problems(*_ALWAYS, *_BODY, WebhookNotFound),
)
async def update_webhook(actor: AccountHolder, webhook_id: UUID, body: WebhookPatch, webhooks: Webhooks) -> WebhookRead:
    return await webhooks.change(actor.user_id, webhook_id, body)


@router.delete(
    "/{webhook_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete a webhook",
    description="With the log of its deliveries. Nothing is sent any more.",
    responses=problems(*_ALWAYS, WebhookNotFound),
)
async def delete_webhook(actor: AccountHolder, webhook_id: UUID, webhooks: Webhooks) -> None:
    await webhooks.remove(actor.user_id, webhook_id)


@router.post(
    "/{webhook_id}/rotate-secret",
    response_model=WebhookWithSecret,
    summary="Make a new secret",
    description="For 24 hours what is sent is signed with both, so that the receiver can change over.",
    responses=problems(*_ALWAYS, WebhookNotFound),
)
async def rotate_webhook_secret(
    actor: AccountHolder, webhook_id: UUID, webhooks: Webhooks, response: Response
) -> WebhookWithSecret:
    response.headers.update(_NO_STORE)
    return await webhooks.rotate_secret(actor.user_id, webhook_id)


@router.post(
    "/{webhook_id}/test",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=DeliveryRead,
    summary="Try a webhook",
    description="Sends an event of the type `webhook.test`. The log of deliveries tells how it went.",
    responses=problems(*_ALWAYS, WebhookNotFound, WebhookDisabled),
)
async def try_webhook(actor: AccountHolder, webhook_id: UUID, webhooks: Webhooks) -> DeliveryRead:
    return await webhooks.send_test(actor.user_id, webhook_id)


@router.get(
    "/{webhook_id}/deliveries",
    response_model=Page[DeliveryRead],
    summary="What was delivered, and what was not",
    description="Newest first. Kept for 30 days after the end of each.",
    responses=problems(*_ALWAYS, WebhookNotFound, InvalidCursor),
)
async def list_webhook_deliveries(
    actor: AccountHolder,
    webhook_id: UUID,
    webhooks: Webhooks,
    status: Annotated[DeliveryStatus | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeliveryRead]:
    return await webhooks.deliveries(actor.user_id, webhook_id, status=status, cursor=cursor, limit=limit)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=DeliveryRead,
    summary="Deliver again",
    description="With the same `webhook-id`, and the event as it is now. Attempts are counted anew.",
    responses=problems(*_ALWAYS, WebhookNotFound, DeliveryNotFound, DeliveryPending, WebhookDisabled),
)
async def redeliver_webhook(
    actor: AccountHolder, webhook_id: UUID, delivery_id: UUID, webhooks: Webhooks
) -> DeliveryRead:
    return await webhooks.redeliver(actor.user_id, webhook_id, delivery_id)
