"""What an account's archive is made of. Every statement gives `key` and `document`, ascending by key, in batches."""

from __future__ import annotations

from chat_api.messages.documents import timestamp
from chat_api.tools.documents import TOOL_COLUMNS

ROWS = 500
BYTES = 1024 * 1024
"""Where a batch ends, should its rows be large: memory holds one, and a message may have half a million characters."""

PROFILE = f"""
    SELECT json_build_object(
        'id', u.id, 'email', u.email, 'username', u.username, 'user_type', u.user_type, 'plan', u.plan,
        'is_admin', u.is_admin, 'created_at', {timestamp("u.created_at")}, 'updated_at', {timestamp("u.updated_at")}
    ) FROM chat.users u WHERE u.id = $1 AND u.is_active
"""
"""($1 person) → the account. Its password's hash is nobody's to see."""


def _list(columns: str, source: str, condition: str, key: str = "t.id") -> str:
    return f"""
        SELECT {key} AS key, (SELECT row_to_json(d) FROM (SELECT {columns}) d) AS document
        FROM {source} WHERE {condition} AND {key} > $2 ORDER BY {key} LIMIT {ROWS}
    """


LISTS = {
    "api-keys": _list(
        f"""t.id, t.name, t.scopes, {timestamp("t.created_at")} AS created_at,
        {timestamp("t.expires_at")} AS expires_at, {timestamp("t.last_used_at")} AS last_used_at,
        {timestamp("t.revoked_at")} AS revoked_at""",
        "chat.api_keys t",
        "t.user_id = $1",
    ),
    "sign-ins": _list(
        f"""{timestamp("t.created_at")} AS signed_in_at, {timestamp("t.rotated_at")} AS last_used_at,
        {timestamp("t.expires_at")} AS expires_at, {timestamp("t.revoked_at")} AS ended_at,
        t.revoked_reason AS ended_because""",
        "chat.refresh_families t",
        "t.user_id = $1",
    ),
    "bots": _list(
        f"""t.id, t.name, t.description, t.system_prompt, t.provider, t.model, t.configuration, t.visibility,
        {timestamp("t.created_at")} AS created_at, {timestamp("t.updated_at")} AS updated_at, (
            SELECT coalesce(json_agg(json_build_object('user_id', u.id, 'username', u.username) ORDER BY u.id), '[]')
            FROM chat.bot_shares x JOIN chat.users u ON u.id = x.user_id WHERE x.bot_id = t.id
        ) AS shared_with""",
        "chat.bots t",
        "t.owner_id = $1 AND t.deleted_at IS NULL",
    ),
    "bots-shared-with-me": _list(
        f"t.bot_id, b.name, {timestamp('t.created_at')} AS created_at",
        "chat.bot_shares t JOIN chat.bots b ON b.id = t.bot_id",
        "t.user_id = $1 AND b.deleted_at IS NULL",
        key="t.bot_id",
    ),
    "participations": _list(
        f"t.session_id, s.title, t.role, t.last_read_seq, {timestamp('t.joined_at')} AS joined_at",
        "chat.participants t JOIN chat.sessions s ON s.id = t.session_id",
        "t.user_id = $1",
        key="t.session_id",
    ),
    "tool-decisions": _list(
        f"""t.id, t.session_id, t.tool_name, t.source, t.status, t.reason, t.model_arguments IS NOT NULL AS is_changed,
        CASE WHEN t.model_arguments IS NOT NULL THEN t.arguments END AS arguments,
        {timestamp("t.decided_at")} AS decided_at""",
        "chat.tool_executions t",
        "t.decided_by = $1",
    ),
    "webhooks": _list(
        f"""t.id, t.url, t.description, t.event_types, {timestamp("t.created_at")} AS created_at,
        {timestamp("t.disabled_at")} AS disabled_at""",
        "chat.webhook_endpoints t",
        "t.user_id = $1",
    ),
    "audit": _list(
        f"""t.id, t.action, t.subject_type, t.subject_id, t.actor_id = $1 AS done_by_me,
        CASE WHEN t.actor_id = $1 THEN t.details END AS details, {timestamp("t.created_at")} AS created_at""",
        "chat.audit_log t",
        "(t.actor_id = $1 OR t.subject_id = $1)",
    ),
}
"""($1 person, $2 after the key) by the name of their file."""

USAGE = """
    SELECT coalesce(json_agg(d ORDER BY d.day), '[]') FROM (
        SELECT day, sum(messages)::bigint AS messages, sum(tokens)::bigint AS tokens
        FROM chat.user_days WHERE user_id = $1 GROUP BY day
    ) d
"""

IMPORTS = f"""
    SELECT coalesce(json_agg(d ORDER BY d.created_at), '[]') FROM (
        SELECT source, source_id, session_id, {timestamp("created_at")} AS created_at
        FROM chat.imports WHERE user_id = $1
    ) d
"""

DOCUMENTS = f"""
    SELECT t.id AS key, t.name, t.storage_key, (SELECT row_to_json(d) FROM (
        SELECT t.id, t.bot_id, t.name, t.content_type, t.size_bytes, encode(t.sha256, 'hex') AS sha256, t.status,
            {timestamp("t.created_at")} AS created_at
    ) d) AS document
    FROM chat.documents t WHERE t.uploaded_by = $1 AND t.deleted_at IS NULL AND t.id > $2 ORDER BY t.id LIMIT {ROWS}
"""

ATTACHMENTS = f"""
    SELECT t.id AS key, t.name, t.storage_key, (SELECT row_to_json(d) FROM (
        SELECT t.id, t.name, t.content_type, t.size_bytes, encode(t.sha256, 'hex') AS sha256,
            {timestamp("t.created_at")} AS created_at
    ) d) AS document
    FROM chat.attachments t WHERE t.owner_id = $1 AND t.id > $2 ORDER BY t.id LIMIT {ROWS}
"""

SESSIONS = f"SELECT id AS key FROM chat.sessions WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT {ROWS}"

SNAPSHOTS = f"""
    SELECT p.id AS key, json_build_object(
        'id', p.id, 'session_id', p.session_id, 'title', p.title, 'session', p.session,
        'created_at', {timestamp("p.created_at")}
    ) AS document
    FROM chat.snapshots p JOIN chat.sessions s ON s.id = p.session_id
    WHERE s.owner_id = $1 AND p.id > $2 ORDER BY p.id LIMIT {ROWS}
"""


def _in_bytes(columns: str, source: str, condition: str, key: str, size: str) -> str:
    """Batches that end where they have `BYTES` of `size`, also within `ROWS` rows."""
    return f"""
        WITH next AS (
            SELECT * FROM {source} WHERE {condition} AND {key} > $2 ORDER BY {key} LIMIT {ROWS}
        ), t AS (
            SELECT next.*, sum({size})
                OVER (ORDER BY {key} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM next
        )
        SELECT t.{key} AS key, (SELECT row_to_json(d) FROM (SELECT {columns}) d) AS document
        FROM t WHERE coalesce(t.before, 0) < {BYTES} ORDER BY t.{key}
    """


SNAPSHOT_MESSAGES = _in_bytes(
    f"""t.seq, t.message_id AS id, t.parent_seq, t.role, t.sender_id = $3 AS is_mine, t.content, t.status, t.provider,
    t.model, t.citations, t.attachments, t.tools_used, t.metadata, {timestamp("t.created_at")} AS created_at""",
    "chat.snapshot_messages",
    "snapshot_id = $1 AND deleted_at IS NULL",
    "seq",
    "octet_length(content) + pg_column_size(citations) + pg_column_size(metadata)",
)

TOOL_EXECUTIONS = _in_bytes(
    TOOL_COLUMNS,
    "chat.tool_executions",
    "session_id = $1",
    "id",
    "coalesce(octet_length(result), 0) + pg_column_size(arguments) + pg_column_size(parameters)",
)

VISITED = f"""
    SELECT s.id AS key,
        s.owner_id <> $1 AND EXISTS (
            SELECT FROM chat.messages m WHERE m.session_id = s.id AND m.sender_id = $1 AND m.deleted_at IS NULL
        ) AS wrote,
        (
            SELECT json_agg(json_build_object('session_id', s.id, 'message_id', m.id, 'emoji', r.emoji) ORDER BY m.seq)
            FROM chat.messages m, jsonb_each(m.reactions) AS r (emoji, people)
            WHERE m.session_id = s.id AND m.reactions <> '{{}}' AND r.people ? CAST($1 AS text)
        ) AS reactions
    FROM (SELECT id, owner_id FROM chat.sessions WHERE id > $2 ORDER BY id LIMIT {ROWS}) s
    ORDER BY s.id
"""
"""($1 person, $2 after a session) → of every session there is, whether they said something in it that is not theirs,
and their reactions. Whoever left a session is no participant, and what they said there is theirs all the same.
"""
