"""Imports every model once, so that Alembic, the API and the worker see the same metadata."""

from __future__ import annotations

from chat_api.analytics import models as analytics_models
from chat_api.attachments import models as attachment_models
from chat_api.audit import models as audit_models
from chat_api.auth import models as auth_models
from chat_api.bots import models as bot_models
from chat_api.documents import models as document_models
from chat_api.kit import idempotency, outbox
from chat_api.messages import models as message_models
from chat_api.plans import models as plan_models
from chat_api.runs import models as run_models
from chat_api.search import models as search_models
from chat_api.sessions import models as session_models
from chat_api.snapshots import models as snapshot_models
from chat_api.tools import models as tool_models
from chat_api.transfer import models as transfer_models
from chat_api.users import models as user_models
from chat_api.webhooks import models as webhook_models

MODELS = (
    analytics_models,
    attachment_models,
    audit_models,
    auth_models,
    bot_models,
    document_models,
    idempotency,
    outbox,
    message_models,
    plan_models,
    run_models,
    search_models,
    session_models,
    snapshot_models,
    tool_models,
    transfer_models,
    user_models,
    webhook_models,
)
