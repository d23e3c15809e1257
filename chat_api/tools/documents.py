"""A tool execution as JSON, built by PostgreSQL. `ToolExecutionRead` declares it for the OpenAPI document.

Everybody in the session may read it, so what a tool says that no log may show is left out here, and nowhere else.
"""

from __future__ import annotations

from chat_api.messages.documents import timestamp

REDACTED = "[redacted]"


def _arguments(column: str) -> str:
    return f"""
    CASE WHEN {column} IS NULL OR cardinality(t.redacted_arguments) = 0 THEN {column} ELSE (
        SELECT coalesce(jsonb_object_agg(
            a.key, CASE WHEN a.key = ANY (t.redacted_arguments) THEN '"{REDACTED}"'::jsonb ELSE a.value END
        ), '{{}}') FROM jsonb_each({column}) a
    ) END"""


# What failed may quote the arguments that did not fit, or the tool's own words.
_ERROR = f"""
    CASE WHEN t.redact_result THEN (t.error - 'errors') || '{{"detail": "{REDACTED}"}}'
        WHEN cardinality(t.redacted_arguments) > 0 THEN t.error - 'errors'
        ELSE t.error END"""

TOOL_COLUMNS = f"""
    t.id, t.session_id, t.message_id, t.run_id, t.round, t.position, t.call_id, t.tool_name, t.source, t.risk,
    t.repeatable, t.parameters, {_arguments("t.arguments")} AS arguments,
    {_arguments("t.model_arguments")} AS model_arguments, t.status,
    CASE WHEN t.redact_result AND t.result IS NOT NULL THEN '{REDACTED}' ELSE t.result END AS result,
    {_ERROR} AS error, t.attempts, t.duration_ms, t.decided_by,
    {timestamp("t.decided_at")} AS decided_at, t.reason,
    {timestamp("t.expires_at")} AS expires_at,
    {timestamp("t.created_at")} AS created_at,
    {timestamp("t.started_at")} AS started_at,
    {timestamp("t.finished_at")} AS finished_at
"""
"""Select list for a tool execution `t`."""
