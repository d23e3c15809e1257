"""Statistics of one session, counted from its rows. `SessionStatistics` declares what it gives."""

from __future__ import annotations

from chat_api.messages.documents import timestamp


def _percentiles(column: str, condition: str = "true") -> str:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    items = ", ".join(
        f"'{name}', round(percentile_cont({share}) WITHIN GROUP (ORDER BY {column})"
        f" FILTER (WHERE {condition})::numeric, 1)"
        for name, share in shares.items()
    )
    return f"json_build_object({items})"


def _counts(column: str, *values: str) -> str:
    return ", ".join(f"'{value}', count(*) FILTER (WHERE {column} = '{value}')" for value in values)


_TOKENS = """json_build_object(
    'prompt_tokens', coalesce(sum((usage ->> 'prompt_tokens')::bigint), 0),
    'completion_tokens', coalesce(sum((usage ->> 'completion_tokens')::bigint), 0),
    'total_tokens', coalesce(sum((usage ->> 'total_tokens')::bigint), 0)
)"""
_COMPLETED = "status = 'completed'"

SESSION_STATISTICS = f"""
    SELECT json_build_object(
        'session_id', p.session_id, 'messages', m.counts,
        'participants', (SELECT count(*) FROM chat.participants x WHERE x.session_id = $1),
        'first_message_at', m.first_at, 'last_message_at', m.last_at,
        'runs', r.counts, 'error_rate', r.error_rate, 'tokens', r.tokens, 'cost', r.cost,
        'latency_ms', r.latency, 'time_to_first_token_ms', r.first_token,
        'models', coalesce((
            SELECT json_agg(d ORDER BY d.runs DESC, d.provider, d.model) FROM (
                SELECT provider, model, count(*) AS runs, {_TOKENS} AS tokens,
                    coalesce(sum(cost), 0)::float8 AS cost
                FROM chat.runs WHERE session_id = $1 AND finished_at IS NOT NULL GROUP BY provider, model
            ) d
        ), '[]'),
        'tools', coalesce((
            SELECT json_agg(d ORDER BY d.calls DESC, d.tool_name, d.source) FROM (
                SELECT tool_name, source, count(*) AS calls,
                    count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                    count(*) FILTER (WHERE status = 'failed') AS failed,
                    count(*) FILTER (WHERE status = 'rejected') AS rejected,
                    count(*) FILTER (WHERE status = 'timed_out') AS timed_out,
                    {_percentiles("duration_ms")} AS duration_ms
                FROM chat.tool_executions WHERE session_id = $1 GROUP BY tool_name, source
            ) d
        ), '[]')
    )
    FROM chat.participants p, (
        SELECT
            json_build_object('total', count(*), {_counts("role", "user", "assistant", "system", "tool")}) AS counts,
            {timestamp("min(created_at)")} AS first_at, {timestamp("max(created_at)")} AS last_at
        FROM chat.messages WHERE session_id = $1 AND deleted_at IS NULL
    ) m, (
        SELECT
            json_build_object('total', count(*), {
    _counts("status", "completed", "failed", "cancelled", "queued", "running", "awaiting_approval")
}) AS counts,
            round(
                count(*) FILTER (WHERE status = 'failed')::numeric
                / nullif(count(*) FILTER (WHERE finished_at IS NOT NULL), 0), 4
            ) AS error_rate,
            {_TOKENS} AS tokens, coalesce(sum(cost), 0)::float8 AS cost,
            {_percentiles("latency_ms", _COMPLETED)} AS latency,
            {_percentiles("time_to_first_token_ms", _COMPLETED)} AS first_token
        FROM chat.runs WHERE session_id = $1
    ) r
    WHERE p.session_id = $1 AND p.user_id = $2
"""
"""($1 session, $2 caller) → one document; no row when the caller does not take part."""
