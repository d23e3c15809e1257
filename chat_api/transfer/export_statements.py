"""What an export reads, in batches of bounded size: each is one statement, so nothing is held while a client reads.

A batch goes on after a key, and ends after `ROWS` rows or where it has `BYTES` bytes, whichever comes first. Who asks
for it is part of the statement: a reader who was removed in the middle gets no row more.
"""

from __future__ import annotations

from chat_api.messages.documents import MESSAGE_COLUMNS, timestamp
from chat_api.runs.documents import RUN_COLUMNS
from chat_api.tools.documents import TOOL_COLUMNS

ROWS = 500
BYTES = 1024 * 1024

IMPORTED_AUTHOR = "imported_author"
"""In the metadata of an imported message: the name of who wrote it, where that was not the importer."""

# What is sent has the hash of its request, what was brought in has none: nobody speaks in another's name by metadata.
_AUTHOR = f"""CASE WHEN m.role = 'user' THEN
    coalesce(CASE WHEN m.request_hash IS NULL THEN m.metadata ->> '{IMPORTED_AUTHOR}' END, u.username)
END"""

_MAY_READ = """($3::uuid IS NULL OR EXISTS (
    SELECT 1 FROM chat.participants p WHERE p.session_id = $1 AND p.user_id = $3
))"""

_ATTACHMENTS = """
    CASE WHEN m.attachments = '[]' THEN m.attachments ELSE (
        SELECT jsonb_agg(n.named || jsonb_build_object('sha256', encode(f.sha256, 'hex')) ORDER BY n.position)
        FROM jsonb_array_elements(m.attachments) WITH ORDINALITY AS n (named, position)
        LEFT JOIN chat.attachments f ON f.id = (n.named ->> 'id')::uuid
    ) END"""

_REACTIONS = """
    CASE WHEN m.reactions = '{}' THEN m.reactions ELSE (
        SELECT jsonb_object_agg(r.emoji, (
            SELECT coalesce(jsonb_agg(w.username ORDER BY n.position), '[]')
            FROM jsonb_array_elements_text(r.people) WITH ORDINALITY AS n (person, position)
            JOIN chat.users w ON w.id = n.person::uuid
        )) FROM jsonb_each(m.reactions) AS r (emoji, people)
    ) END"""

_EXPORTED_COLUMNS = f"""
    m.id, m.seq, m.role, {_AUTHOR} AS author, m.content,
    {timestamp("m.created_at")} AS created_at, {timestamp("m.edited_at")} AS edited_at,
    m.parent_id, m.status, m.provider, m.model,
    CASE WHEN m.total_tokens IS NOT NULL THEN json_build_object(
        'prompt_tokens', m.prompt_tokens, 'completion_tokens', m.completion_tokens, 'total_tokens', m.total_tokens
    ) END AS usage,
    m.cost::float8 AS cost, m.latency_ms, m.time_to_first_token_ms, m.citations, m.tools_used,
    {_ATTACHMENTS} AS attachments, {_REACTIONS} AS reactions, m.error, m.metadata - '{IMPORTED_AUTHOR}' AS metadata
"""

_TEXT_COLUMNS = f"""
    m.seq, m.role, {_AUTHOR} AS author, m.status, m.content, m.provider, m.model,
    {timestamp("m.created_at")} AS created_at, {timestamp("m.edited_at")} AS edited_at,
    m.prompt_tokens, m.completion_tokens, m.total_tokens, m.cost::float8 AS cost, m.latency_ms, m.citations,
    m.tools_used, m.attachments
"""

SESSION = f"""
    SELECT s.title, s.last_seq, {timestamp("s.created_at")} AS created_at, json_build_object(
        'id', s.id, 'title', s.title, 'status', s.status, 'bot_id', s.bot_id, 'provider', s.provider, 'model', s.model,
        'system_prompt', s.system_prompt, 'reply_policy', s.reply_policy, 'approval_mode', s.approval_mode,
        'tags', s.tags, 'metadata', s.metadata, 'settings', s.settings, 'created_at', {timestamp("s.created_at")},
        'participants', (
            SELECT json_agg(json_build_object('user_id', u.id, 'username', u.username, 'role', p.role)
                ORDER BY p.joined_at, p.user_id)
            FROM chat.participants p JOIN chat.users u ON u.id = p.user_id WHERE p.session_id = s.id
        )
    ) AS document
    FROM chat.sessions s
    WHERE s.id = $1
      AND ($2::uuid IS NULL OR EXISTS (SELECT 1 FROM chat.participants p WHERE p.session_id = $1 AND p.user_id = $2))
"""
"""($1 session, $2 reader, null for an operator) → the session as it is exported; no row when they take no part."""

VISITED_SESSION = f"""
    SELECT s.title, s.last_seq, {timestamp("s.created_at")} AS created_at, json_build_object(
        'id', s.id,
        'title', CASE WHEN EXISTS (
            SELECT 1 FROM chat.participants p WHERE p.session_id = s.id AND p.user_id = $2
        ) THEN s.title END
    ) AS document
    FROM chat.sessions s WHERE s.id = $1
"""
"""($1 session, $2 person) → what somebody else's session is to a person whose own messages alone are exported."""

STILL_READS = f"SELECT 1 AS found FROM chat.sessions s WHERE s.id = $1 AND {_MAY_READ.replace('$3', '$2')}"
"""($1 session, $2 reader, null for an operator)"""


def _messages(select: str, *, with_deleted: bool = False) -> str:
    present = "true" if with_deleted else "m.deleted_at IS NULL"
    return f"""
    WITH next AS (
        SELECT * FROM chat.messages m
        WHERE m.session_id = $1 AND m.seq > $2 AND m.seq <= $4 AND {present}
          AND ($5::uuid IS NULL OR m.sender_id = $5) AND {_MAY_READ}
        ORDER BY m.seq LIMIT {ROWS}
    ), sized AS (
        SELECT next.*, sum(octet_length(content) + pg_column_size(citations) + pg_column_size(metadata))
            OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM next
    ), m AS (
        SELECT * FROM sized WHERE coalesce(before, 0) < {BYTES}
    )
    {select}
    """


_OF_SENDERS = "FROM m LEFT JOIN chat.users u ON u.id = m.sender_id"


def _documents(columns: str) -> str:
    document = f"(SELECT row_to_json(d) FROM (SELECT {columns}) d)"
    return f"SELECT m.seq AS key, {document} AS document {_OF_SENDERS} ORDER BY m.seq"


MESSAGES = _messages(_documents(_EXPORTED_COLUMNS))
"""($1 session, $2 after seq, $3 reader, $4 last seq, $5 sender, null for everybody's) → messages as exported."""

MESSAGES_AS_READ = _messages(_documents(MESSAGE_COLUMNS), with_deleted=True)
"""The same, as the history shows them, tombstones included."""

MESSAGE_TEXTS = _messages(f"SELECT {_TEXT_COLUMNS} {_OF_SENDERS} ORDER BY m.seq")
"""The same, as columns."""

REVISIONS = f"""
    WITH next AS (
        SELECT r.*, m.seq FROM chat.message_revisions r
        JOIN chat.messages m ON m.session_id = r.session_id AND m.id = r.message_id
        WHERE r.session_id = $1 AND (r.message_id, r.revision) > ($2::uuid, $6::bigint) AND m.seq <= $4
          AND m.deleted_at IS NULL AND ($5::uuid IS NULL OR m.sender_id = $5) AND {_MAY_READ}
        ORDER BY r.message_id, r.revision LIMIT {ROWS}
    ), sized AS (
        SELECT next.*, sum(octet_length(content))
            OVER (ORDER BY message_id, revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM next
    )
    SELECT r.message_id AS key, r.revision, (SELECT row_to_json(d) FROM (
        SELECT r.message_id, r.revision, r.content, {timestamp("r.written_at")} AS written_at,
            {timestamp("r.replaced_at")} AS replaced_at
    ) d) AS document
    FROM sized r WHERE coalesce(r.before, 0) < {BYTES} ORDER BY r.message_id, r.revision
"""
"""($1 session, $2 after message, $3 reader, $4 last seq, $5 sender, $6 after revision) → earlier texts."""

RUNS = f"""
    SELECT r.id AS key, (SELECT row_to_json(d) FROM (SELECT {RUN_COLUMNS}) d) AS document FROM (
        SELECT * FROM chat.runs WHERE session_id = $1 AND id > $2 AND {_MAY_READ} ORDER BY id LIMIT {ROWS}
    ) r ORDER BY r.id
"""
"""($1 session, $2 after run, $3 reader)"""

TOOL_EXECUTIONS = f"""
    WITH next AS (
        SELECT * FROM chat.tool_executions
        WHERE session_id = $1 AND id > $2 AND {_MAY_READ} ORDER BY id LIMIT {ROWS}
    ), t AS (
        SELECT next.*, sum(
            coalesce(octet_length(result), 0) + pg_column_size(arguments) + pg_column_size(parameters)
        ) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM next
    )
    SELECT t.id AS key, (SELECT row_to_json(d) FROM (SELECT {TOOL_COLUMNS}) d) AS document
    FROM t WHERE coalesce(t.before, 0) < {BYTES} ORDER BY t.id
"""
"""($1 session, $2 after execution, $3 reader)"""

OWNED_SESSIONS = f"SELECT id FROM chat.sessions WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT {ROWS}"
"""($1 owner, $2 after session) → their sessions, the earliest first."""
