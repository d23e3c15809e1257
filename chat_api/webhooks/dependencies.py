"""The collaborators of the webhook routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.kit.dependencies import Db
from chat_api.webhooks.secrets import WebhookSecrets
from chat_api.webhooks.service import WebhookService


async def get_webhooks(db: Db, clock: TheClock, settings: TheSettings) -> WebhookService:
    return WebhookService(db, clock, WebhookSecrets(settings.secret_keys), settings.webhook_internal_hosts)


Webhooks = Annotated[WebhookService, Depends(get_webhooks)]
