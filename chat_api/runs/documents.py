"""A run, and what a session is doing, as JSON built by PostgreSQL. `RunRead` and `SessionActivity` declare them."""

from __future__ import annotations

from chat_api.messages.documents import timestamp
from chat_api.runs.session_bot import BOT_JOIN, MODEL, PROVIDER

RUN_COLUMNS = f"""
    r.id, r.session_id, r.trigger_message_id, r.reply_message_id, r.status, r.error, r.usage,
    {timestamp("r.created_at")} AS created_at,
    {timestamp("r.started_at")} AS started_at,
    {timestamp("r.finished_at")} AS finished_at
"""
"""Select list for a run `r`."""

SESSION_STATUS = f"""
    SELECT json_build_object(
        'session_id', s.id, 'provider', {PROVIDER}, 'model', {MODEL}, 'approval_mode', s.approval_mode,
        'active_run', (
            SELECT row_to_json(d) FROM (
                SELECT {RUN_COLUMNS} FROM chat.runs r
                WHERE r.session_id = s.id AND r.status IN ('running', 'awaiting_approval')
            ) d
        ),
        'queued_runs', (SELECT count(*) FROM chat.runs r WHERE r.session_id = s.id AND r.status = 'queued'),
        'tools', coalesce(nullif(s.settings -> 'tools', 'null'), b.configuration -> 'tools', '[]'),
        'tokens', (
            SELECT json_build_object(
                'prompt_tokens', coalesce(sum((r.usage ->> 'prompt_tokens')::bigint), 0),
                'completion_tokens', coalesce(sum((r.usage ->> 'completion_tokens')::bigint), 0),
                'total_tokens', coalesce(sum((r.usage ->> 'total_tokens')::bigint), 0)
            ) FROM chat.runs r WHERE r.session_id = s.id
        )
    )
    FROM chat.sessions s JOIN chat.participants p ON p.session_id = s.id AND p.user_id = $2 {BOT_JOIN}
    WHERE s.id = $1
"""
"""($1 session, $2 caller) → what the session is doing and has used."""
