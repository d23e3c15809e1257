"""What an import writes. Everything that another message is known by is a number here: ids are new ones."""

from __future__ import annotations

COPIED_COLUMNS = (
    "content",
    "status",
    "provider",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "latency_ms",
    "time_to_first_token_ms",
    "citations",
    "attachments",
    "reactions",
    "tools_used",
    "error",
    "metadata",
    "created_at",
    "edited_at",
)
"""Of a message, what makes it up beside its place, its role and its sender."""


THE_SESSION = "CAST(:session_id AS uuid)"


def insert_messages(source: str, columns: tuple[str, ...] = COPIED_COLUMNS, *, session: str = THE_SESSION) -> str:
    """Insert what `source` yields into `session`: `id`, `seq`, `parent_id`, `role`, `sender_id`, the columns.

    `session` may be a column of it, `x.…`. The files that the messages name are named by them from then on.
    """
    listed = ", ".join(columns)
    taken = ", ".join(f"x.{column}" for column in columns)
    return f"""
    WITH x AS ({source}), m AS (
        INSERT INTO chat.messages (session_id, seq, id, role, sender_id, parent_id, {listed})
        SELECT {session}, x.seq, x.id, x.role, x.sender_id, x.parent_id, {taken}
        FROM x ORDER BY {session}, x.seq
        RETURNING session_id, id, attachments
    )
    INSERT INTO chat.message_attachments (session_id, message_id, attachment_id)
    SELECT DISTINCT m.session_id, m.id, (named ->> 'id')::uuid FROM m, jsonb_array_elements(m.attachments) AS named
    """


INSERT_STAGED = insert_messages(
    """
    SELECT r.session_id, r.id, r.seq, r.parent_id, r.role, r.sender_id, r.content,
        coalesce(r.status, 'complete') AS status, r.provider, r.model,
        r.prompt_tokens, r.completion_tokens, r.total_tokens, r.cost, r.latency_ms,
        r.time_to_first_token_ms, coalesce(r.citations, '[]') AS citations,
        coalesce(r.attachments, '[]') AS attachments,
        coalesce(r.reactions, '{}') AS reactions, coalesce(r.tools_used, '{}') AS tools_used,
        r.error, coalesce(r.metadata, '{}') AS metadata,
        least(coalesce(r.created_at, now()), now()) AS created_at,
        CASE WHEN r.edited_at IS NOT NULL THEN least(r.edited_at, now()) END AS edited_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        session_id uuid, id uuid, seq bigint, parent_id uuid, role text, sender_id uuid, content text, status text,
        provider text, model text, prompt_tokens bigint, completion_tokens bigint, total_tokens bigint, cost numeric,
        latency_ms bigint, time_to_first_token_ms bigint, citations jsonb, attachments jsonb, reactions jsonb,
        tools_used text[], error jsonb, metadata jsonb, created_at timestamptz, edited_at timestamptz
    )
    """,
    session="x.session_id",
)
"""(:rows as JSON, of any sessions) A moment that is still to come is taken for now."""

INSERT_REVISIONS = """
    INSERT INTO chat.message_revisions (session_id, message_id, revision, content, written_at, replaced_at)
    SELECT r.session_id, r.message_id, r.revision, r.content, least(r.written_at, now()), least(r.replaced_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        session_id uuid, message_id uuid, revision bigint, content text, written_at timestamptz, replaced_at timestamptz
    )
"""
"""(:rows as JSON, of messages that are stored)"""

INSERT_SESSIONS = """
    WITH s AS (
        INSERT INTO chat.sessions (
            id, owner_id, title, status, bot_id, provider, model, system_prompt, reply_policy, approval_mode, tags,
            metadata, settings, message_count, last_seq, last_activity_at, created_at
        )
        SELECT r.id, CAST(:owner_id AS uuid), r.title, coalesce(r.status, 'active'), r.bot_id,
            r.provider, r.model, r.system_prompt, r.reply_policy, coalesce(r.approval_mode, 'risky'),
            coalesce(r.tags, '{}'),
            coalesce(r.metadata, '{}'), coalesce(r.settings, '{}'), r.messages, r.messages,
            now() - make_interval(secs => CAST(r.place AS float8) / 1000), least(coalesce(r.created_at, now()), now())
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
            id uuid, place bigint, messages bigint, title text, status text, bot_id uuid, provider text, model text,
            system_prompt text, reply_policy text, approval_mode text, tags text[], metadata jsonb, settings jsonb,
            created_at timestamptz
        )
        RETURNING id, owner_id, last_seq
    )
    INSERT INTO chat.participants (session_id, user_id, role, last_read_seq)
    SELECT id, owner_id, 'owner', last_seq FROM s
"""
"""(:owner_id, :rows as JSON, each with `id`, number of `messages`, `place` among the file's conversations)

Coming in is activity, so that nothing takes it for idle at once; in a list the conversations keep the file's order, a
millisecond apart.
"""

INSERT_IMPORTS = """
    INSERT INTO chat.imports (user_id, source, source_id, content_hash, session_id)
    SELECT CAST(:user_id AS uuid), r.source, r.source_id, decode(r.content_hash, 'hex'), r.session_id
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (source text, source_id text, content_hash text, session_id uuid)
    ON CONFLICT (user_id, source, source_id, content_hash) DO UPDATE SET session_id = excluded.session_id
"""
"""(:user_id, :rows as JSON, the hashes in hexadecimal) One that is there already led to a session that the person takes
part in no more. No two of the rows are of the same conversation."""

KNOWN_IMPORTS = """
    SELECT i.source, i.source_id, i.content_hash, i.session_id FROM chat.imports i
    JOIN chat.participants p ON p.session_id = i.session_id AND p.user_id = i.user_id
    WHERE i.user_id = :user_id AND i.content_hash = ANY (:hashes)
"""

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('import ' || CAST(CAST(:user_id AS uuid) AS text), 0))"
"""Of one person: who sends a file twice gets one session, whichever came first."""

READABLE_FILES = """
    SELECT f.id, f.name, f.content_type, f.size_bytes, f.sha256 FROM chat.attachments f
    WHERE f.id = ANY (:ids) AND (f.owner_id = :user_id OR EXISTS (
        SELECT 1 FROM chat.message_attachments n
        JOIN chat.messages m ON m.session_id = n.session_id AND m.id = n.message_id AND m.deleted_at IS NULL
        JOIN chat.participants p ON p.session_id = n.session_id AND p.user_id = :user_id
        WHERE n.attachment_id = f.id
    ))
    FOR KEY SHARE OF f
"""
"""(:ids, :user_id) → those files that the person may read, held until the messages that name them are stored."""
