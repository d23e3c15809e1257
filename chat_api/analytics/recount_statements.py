"""What is counted, from the rows themselves, and what the figures that are shown lack of it."""

from __future__ import annotations

from chat_api.analytics.statements import EVERYBODY, HISTOGRAMS, PEOPLE, SUMS, added_to, from_deltas, summed

_DAY = "(created_at AT TIME ZONE 'UTC')::date"

_ROWS = f"""
    SELECT {_DAY} AS day, owner_id AS user_id, 'session' AS subject, '' AS provider, status AS name, '' AS outcome,
        1 AS number, 0 AS prompt_tokens, 0 AS completion_tokens, 0 AS total_tokens, 0::numeric AS cost,
        0 AS timed, NULL::bigint AS duration_ms, NULL::bigint AS first_token_ms
    FROM chat.sessions
    UNION ALL
    SELECT {_DAY}, sender_id, 'message', '', role, '', count(*), 0, 0, 0, 0, 0, NULL, NULL
    FROM chat.messages WHERE deleted_at IS NULL GROUP BY 1, 2, 5
    UNION ALL
    SELECT {_DAY}, requested_by, 'run', coalesce(provider, ''), coalesce(model, ''), status, 1,
        coalesce((usage ->> 'prompt_tokens')::bigint, 0), coalesce((usage ->> 'completion_tokens')::bigint, 0),
        coalesce((usage ->> 'total_tokens')::bigint, 0), coalesce(cost, 0), 1,
        CASE WHEN status = 'completed' THEN latency_ms END,
        CASE WHEN status = 'completed' THEN time_to_first_token_ms END
    FROM chat.runs WHERE finished_at IS NOT NULL
    UNION ALL
    SELECT {_DAY}, requested_by, 'tool', source, tool_name, status, 1, 0, 0, 0, 0, 1, duration_ms, NULL
    FROM chat.tool_executions WHERE finished_at IS NOT NULL
"""
"""What is counted, as deltas: the meaning of every figure. The triggers say the same of each row that changes."""


def _difference(table: str, keys: tuple[str, ...]) -> str:
    """What a recount gives, less what is shown: no row where they are the same."""
    people = "user_id" in keys
    condition = "user_id IS NOT NULL" if people else "true"
    person = "user_id" if people else "NULL::uuid"
    negative = ", ".join(f"-{name}" for name in SUMS)
    turned = ", ".join(
        f"(SELECT coalesce(jsonb_object_agg(h.key, -h.value::bigint), '{{}}') FROM jsonb_each_text({name}) h)"
        for name in HISTOGRAMS
    )
    zeros = ", ".join("0" for _ in SUMS)
    return f"""
        WITH rows AS ({_ROWS}), facts AS MATERIALIZED (
            {from_deltas("rows", condition, people=people)}
            UNION ALL
            SELECT day, {person}, subject, provider, name, outcome, {negative}, {turned} FROM chat.{table}
            UNION ALL
            SELECT day, user_id, subject, provider, name, outcome, {negative}, {turned}
            FROM ({from_deltas("chat.analytics_deltas", condition, people=people)}) unfolded
        )
        SELECT * FROM ({summed("facts", keys)}) difference
        WHERE ({", ".join(SUMS)}) <> ({zeros}) OR durations <> '{{}}' OR first_tokens <> '{{}}'
    """


DIFFERENCES = {table: _difference(table, keys) for table, keys in (EVERYBODY, PEOPLE)}
"""By table: what is to be added to it to be what a recount gives."""

REPAIRS = {
    table: f"WITH repaired AS ({added_to(table, keys, difference)} RETURNING 1) SELECT count(*) FROM repaired"
    for (table, keys), difference in zip((EVERYBODY, PEOPLE), DIFFERENCES.values(), strict=True)
}
"""The same, added. To be run by whoever holds the fold's lock: rows may change meanwhile, they leave deltas."""

COMPLETE_RUNS = """
    WITH old AS (
        SELECT session_id, id, trigger_message_id, reply_message_id FROM chat.runs
        WHERE id > :after ORDER BY id LIMIT :most
    ), known AS (
        SELECT o.session_id, o.id, asked.sender_id, reply.provider, reply.model, reply.cost, reply.latency_ms,
            reply.time_to_first_token_ms
        FROM old o
        LEFT JOIN chat.messages asked ON asked.session_id = o.session_id AND asked.id = o.trigger_message_id
        LEFT JOIN chat.messages reply ON reply.session_id = o.session_id AND reply.id = o.reply_message_id
    ), completed AS (
        UPDATE chat.runs r SET
            requested_by = k.sender_id, provider = k.provider, model = k.model, cost = k.cost,
            latency_ms = k.latency_ms, time_to_first_token_ms = k.time_to_first_token_ms
        FROM known k
        WHERE r.session_id = k.session_id AND r.id = k.id AND r.requested_by IS NULL AND k.sender_id IS NOT NULL
        RETURNING r.session_id, r.id, r.requested_by
    ), tools AS (
        UPDATE chat.tool_executions t SET requested_by = c.requested_by
        FROM completed c WHERE t.session_id = c.session_id AND t.run_id = c.id AND t.requested_by IS NULL
    )
    SELECT (SELECT id FROM old ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM completed) AS completed
"""
"""(`after` a run, `most`) → the last run looked at. Runs from before figures were kept get what their messages say."""
