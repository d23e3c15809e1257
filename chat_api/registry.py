"""Imports every model once, so that Alembic, the API and the worker see the same metadata."""

from __future__ import annotations

from chat_api.auth import models as auth_models
from chat_api.kit import idempotency
from chat_api.messages import models as message_models
from chat_api.runs import models as run_models
from chat_api.sessions import models as session_models
from chat_api.users import models as user_models

MODELS = (auth_models, idempotency, message_models, run_models, session_models, user_models)
