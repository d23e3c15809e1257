"""A message as JSON, built by PostgreSQL.

History, events and answers hand these bytes on as they are: building the same JSON in Python costs ten
times as much (`docs/adr/0003`). This is the only place that knows the mapping; `MessageRead` declares it
for the OpenAPI document, and a test holds the two together.
"""

from __future__ import annotations


def timestamp(column: str) -> str:
    """RFC 3339 in UTC with `Z`. Sessions of ours always run in UTC. Null stays null, and costs nothing."""
    return f"""CASE WHEN {column} IS NOT NULL THEN to_char({column}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END"""


MESSAGE_COLUMNS = f"""
    m.id, m.session_id, m.seq, m.role,
    CASE WHEN u.id IS NOT NULL THEN json_build_object('id', u.id, 'username', u.username) END AS sender,
    m.content, m.attachments, m.parent_id, m.run_id, m.status, m.provider, m.model,
    CASE WHEN m.total_tokens IS NOT NULL THEN json_build_object(
        'prompt_tokens', m.prompt_tokens,
        'completion_tokens', m.completion_tokens,
        'total_tokens', m.total_tokens
    ) END AS usage,
    m.cost::float8 AS cost, m.latency_ms, m.time_to_first_token_ms, m.citations, m.tools_used,
    m.reactions, m.error, m.metadata, m.client_id,
    {timestamp("m.created_at")} AS created_at,
    {timestamp("m.edited_at")} AS edited_at,
    {timestamp("m.deleted_at")} AS deleted_at
"""
"""Select list for a message `m` and its sender `u` (left joined)."""

MESSAGE_DOCUMENT = f"""
    SELECT row_to_json(d) AS document FROM (
        SELECT {MESSAGE_COLUMNS} FROM chat.messages m LEFT JOIN chat.users u ON u.id = m.sender_id
        WHERE m.session_id = %(session)s AND m.id = %(message)s
    ) d
"""

MESSAGE_TEXT = f"SELECT CAST(document AS text) FROM ({MESSAGE_DOCUMENT}) d"
"""The same as text, for SQLAlchemy: its driver would parse `json` into a dictionary."""

VISIBLE_MESSAGE = f"""
    {MESSAGE_DOCUMENT % {"session": "$1", "message": "$2"}}
    WHERE EXISTS (SELECT 1 FROM chat.participants p WHERE p.session_id = $1 AND p.user_id = $3)
"""
"""($1 session, $2 message, $3 caller) → the message, if the caller takes part in its session."""

# The permission is part of the statement: no row at all means that the caller does not take part.
_WINDOW = """
    SELECT json_build_object(
        'items', coalesce((
            SELECT json_agg(d ORDER BY d.seq) FROM (
                SELECT {columns} FROM page m LEFT JOIN chat.users u ON u.id = m.sender_id
            ) d
        ), '[]'::json),
        'next_cursor', CASE WHEN (SELECT count(*) FROM found) > $4 THEN '{mark}' || (SELECT {edge}(seq) FROM page) END
    )
    FROM chat.participants p
    WHERE p.session_id = $1 AND p.user_id = $2
"""


def _window(comparison: str, order: str, edge: str, mark: str) -> str:
    return f"""
    WITH found AS (
        SELECT * FROM chat.messages WHERE session_id = $1 AND seq {comparison} $3 ORDER BY seq {order} LIMIT $4 + 1
    ), page AS (SELECT * FROM found ORDER BY seq {order} LIMIT $4)
    {_WINDOW.format(columns=MESSAGE_COLUMNS, mark=mark, edge=edge)}
    """


WINDOW_BEFORE = _window("<", "DESC", "min", "b")
"""($1 session, $2 caller, $3 before seq, $4 limit) → the latest messages before it, ascending."""

WINDOW_AFTER = _window(">", "ASC", "max", "a")
"""($1 session, $2 caller, $3 after seq, $4 limit) → the first messages after it, ascending."""
