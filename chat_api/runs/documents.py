"""A run as JSON, built by PostgreSQL. `RunRead` declares it for the OpenAPI document."""

from __future__ import annotations

from chat_api.messages.documents import timestamp

RUN_COLUMNS = f"""
    r.id, r.session_id, r.trigger_message_id, r.reply_message_id, r.status, r.error, r.usage,
    {timestamp("r.created_at")} AS created_at,
    {timestamp("r.started_at")} AS started_at,
    {timestamp("r.finished_at")} AS finished_at
"""
"""Select list for a run `r`."""
