"""What is looked for and written when a person is erased, in other people's sessions.

`:user` is the person's id, `:id` the same as text, `:stand_in` what stands in its place where something has to. Each
statement about one session is run under the lock of its row.
"""

from __future__ import annotations

_OPEN = "('queued', 'running', 'awaiting_approval')"


def _shows(rows: str) -> str:
    """Of messages, or copies of them: whether one is the person's, or tells of them."""
    return f"""(
        {rows}.sender_id = :user
        OR ({rows}.role = 'system' AND {rows}.metadata ->> 'user_id' = :id)
        OR ({rows}.reactions <> '{{}}' AND CAST({rows}.reactions AS text) LIKE :pattern)
        OR ({rows}.citations <> '[]' AND {_quotes(f"{rows}.citations")})
    )"""


def _quotes(column: str) -> str:
    return f"""EXISTS (
        SELECT FROM jsonb_array_elements({column}) c WHERE c ->> 'document_id' = ANY(CAST(:documents AS text[]))
    )"""


def _without_quotes(column: str) -> str:
    return f"""coalesce((
        SELECT jsonb_agg(c ORDER BY n) FROM jsonb_array_elements({column}) WITH ORDINALITY AS q (c, n)
        WHERE NOT coalesce(c ->> 'document_id', '') = ANY(CAST(:documents AS text[]))
    ), '[]')"""


_EMPTIED = """
    content = '', metadata = '{}', citations = '[]', attachments = '[]', reactions = '{}', error = NULL
"""

_WITHOUT_REACTIONS = """coalesce((
    SELECT jsonb_object_agg(emoji, people - CAST(:id AS text)) FROM jsonb_each(reactions) AS r (emoji, people)
    WHERE people - CAST(:id AS text) <> '[]'
), '{}')"""

_UNNAMED_LINE = """
    content = CASE
        WHEN metadata ->> 'event' = 'participant.left' AND metadata ->> 'user_id' = :id AND content NOT LIKE '% % %'
            THEN 'Somebody left'
        ELSE concat_ws(' ',
            CASE WHEN :owned THEN 'Somebody' ELSE split_part(content, ' ', 1) END,
            split_part(content, ' ', 2),
            CASE WHEN metadata ->> 'user_id' = :id THEN 'somebody' ELSE split_part(content, ' ', 3) END)
    END,
    metadata = CASE
        WHEN metadata ->> 'user_id' = :id THEN metadata || jsonb_build_object('user_id', CAST(:stand_in AS text))
        ELSE metadata
    END
"""
"""Lines are `<owner> added <somebody>`, `<owner> removed <somebody>` and `<somebody> left`; a name has no spaces."""

_IS_UNNAMED_LINE = """
    role = 'system' AND deleted_at IS NULL AND metadata ->> 'event' IN ('participant.joined', 'participant.left')
    AND (metadata ->> 'user_id' = :id OR (:owned AND content LIKE '% % %' AND content NOT LIKE 'Somebody %'))
"""

FIND_TRACES = f"""
    SELECT s.id, s.owner_id = :user
        OR EXISTS (SELECT FROM chat.participants p WHERE p.session_id = s.id AND p.user_id = :user)
        OR EXISTS (SELECT FROM chat.messages m WHERE m.session_id = s.id AND {_shows("m")})
        OR EXISTS (
            SELECT FROM chat.session_events e
            WHERE e.session_id = s.id AND e.data IS NOT NULL AND CAST(e.data AS text) LIKE :pattern
        )
        OR EXISTS (SELECT FROM chat.runs r WHERE r.session_id = s.id AND r.requested_by = :user)
        OR EXISTS (
            SELECT FROM chat.tool_executions t WHERE t.session_id = s.id AND (
                t.requested_by = :user OR t.decided_by = :user
                OR (t.passages <> '[]' AND {_quotes("t.passages")})
            )
        )
        OR EXISTS (
            SELECT FROM chat.snapshots p JOIN chat.snapshot_messages x ON x.snapshot_id = p.id
            WHERE p.session_id = s.id AND {_shows("x")}
        ) AS is_touched
    FROM (SELECT id, owner_id FROM chat.sessions WHERE id > :after ORDER BY id LIMIT :limit) s
    ORDER BY s.id
"""
"""(`after` a session, `limit`) → the next sessions, and whether the person is in them: each is looked at once."""

HAS_OPEN_RUN = f"""
    SELECT EXISTS (
        SELECT FROM chat.runs r WHERE r.session_id = :session AND r.status IN {_OPEN} AND (
            r.requested_by = :user OR r.trigger_message_id IN (
                SELECT m.id FROM chat.messages m WHERE m.session_id = :session AND m.sender_id = :user
            )
        )
    )
"""

OPEN_RUNS = f"""
    SELECT r.id, s.owner_id FROM chat.runs r JOIN chat.sessions s ON s.id = r.session_id
    WHERE r.status IN {_OPEN} AND r.cancel_requested_at IS NULL AND r.requested_by = $1
"""
"""($1 person) → runs that answer them and are not over, and who may cancel each, being always there."""

HEIR = """
    SELECT p.user_id FROM chat.participants p JOIN chat.users u ON u.id = p.user_id
    WHERE p.session_id = :session AND p.user_id <> :user AND u.erasure_requested_at IS NULL
    ORDER BY u.is_active DESC, p.joined_at, p.user_id LIMIT 1
"""
"""Who has been in the session for longest, of those that stay."""

HAND_OVER = """
    WITH passed AS (
        UPDATE chat.sessions SET
            owner_id = :heir, title = :title, system_prompt = NULL, related_session_id = NULL,
            tags = '{}', metadata = '{}', settings = '{}'
        WHERE id = :session AND owner_id = :user RETURNING id
    ), promoted AS (
        UPDATE chat.participants p SET role = 'owner' FROM passed WHERE p.session_id = passed.id AND p.user_id = :heir
    ), forgotten AS (
        UPDATE chat.session_events e SET data = e.data || '{"changes": {}}' FROM passed
        WHERE e.session_id = passed.id AND e.type = 'session.updated'
    )
    DELETE FROM chat.snapshots n USING passed WHERE n.session_id = passed.id
"""
"""Of what the owner wrote about the session nothing stays: not in its events either, nor in their snapshots."""

LEAVE = """
    WITH gone AS (
        DELETE FROM chat.participants WHERE session_id = :session AND user_id = :user RETURNING session_id
    )
    UPDATE chat.sessions s SET
        membership_version = membership_version + 1,
        participant_count = (
            SELECT count(*) FROM chat.participants p WHERE p.session_id = s.id AND p.user_id <> :user
        )
    FROM gone WHERE s.id = gone.session_id
    RETURNING s.id
"""

DOOMED = """
    WITH theirs AS (SELECT id FROM chat.messages WHERE session_id = :session AND sender_id = :user)
    SELECT m.id, m.deleted_at IS NULL AS is_new FROM chat.messages m
    WHERE m.session_id = :session AND (m.sender_id = :user OR (m.role = 'assistant' AND (
        m.parent_id IN (SELECT id FROM theirs)
        OR m.run_id IN (
            SELECT r.id FROM chat.runs r
            WHERE r.session_id = :session AND r.trigger_message_id IN (SELECT id FROM theirs)
        )
    )))
    ORDER BY m.seq
"""
"""What the person said, and what the assistant answered to it: it repeats what it was asked."""

ENTOMB = f"""
    UPDATE chat.messages SET
        {_EMPTIED}, sender_id = CASE WHEN sender_id <> :user THEN sender_id END, client_id = NULL, request_hash = NULL,
        deleted_at = coalesce(deleted_at, :moment)
    WHERE session_id = :session AND id = ANY(CAST(:messages AS uuid[]))
"""

FORGET_REVISIONS = """
    DELETE FROM chat.message_revisions
    WHERE session_id = :session AND message_id = ANY(CAST(:messages AS uuid[]))
"""

FORGET_ATTACHMENTS = """
    DELETE FROM chat.message_attachments
    WHERE session_id = :session AND message_id = ANY(CAST(:messages AS uuid[]))
"""

FORGET_TOOL_TEXTS = f"""
    UPDATE chat.tool_executions SET
        arguments = '{{}}', model_arguments = NULL, result = NULL, passages = '[]', reason = NULL,
        error = error - 'errors' || '{{"detail": "The reply was deleted."}}'
    WHERE session_id = :session AND (
        message_id = ANY(CAST(:messages AS uuid[]))
        OR (passages <> '[]' AND {_quotes("passages")})
        OR (tool_name = 'search_messages' AND cardinality(CAST(:messages AS uuid[])) > 0)
    )
"""
"""Calls that were made to answer them, that found their documents, or that may have found what they said."""

FORGET_DECISIONS = """
    UPDATE chat.tool_executions SET
        decided_by = NULL, reason = NULL, arguments = CASE WHEN model_arguments IS NULL THEN arguments ELSE '{}' END
    WHERE session_id = :session AND decided_by = :user
"""
"""That somebody decided stays on record; who, why, and with which changes does not."""

FORGET_REQUESTS = tuple(
    f"UPDATE chat.{table} SET requested_by = NULL WHERE session_id = :session AND requested_by = :user"
    for table in ("runs", "tool_executions")
)

TAKE_BACK_REACTIONS = f"""
    UPDATE chat.messages SET reactions = {_WITHOUT_REACTIONS}
    WHERE session_id = :session AND reactions <> '{{}}' AND CAST(reactions AS text) LIKE :pattern
    RETURNING id
"""

FORGET_QUOTES = f"""
    UPDATE chat.messages SET citations = {_without_quotes("citations")}
    WHERE session_id = :session AND citations <> '[]' AND {_quotes("citations")}
    RETURNING id
"""

UNNAME_LINES = f"""
    UPDATE chat.messages SET {_UNNAMED_LINE} WHERE session_id = :session AND {_IS_UNNAMED_LINE} RETURNING id
"""

UNNAME_EVENTS = """
    UPDATE chat.session_events SET data = data
        || CASE WHEN data ->> 'user_id' = :id
            THEN jsonb_build_object('user_id', CAST(:stand_in AS text)) ELSE '{}' END
        || CASE WHEN data ->> 'user_id' = :id AND data ? 'username' THEN '{"username": "somebody"}'::jsonb ELSE '{}' END
        || CASE WHEN data ->> 'removed_by' = :id
            THEN jsonb_build_object('removed_by', CAST(:stand_in AS text)) ELSE '{}' END
    WHERE session_id = :session AND data IS NOT NULL AND CAST(data AS text) LIKE :pattern
"""

FORGET_IN_SNAPSHOTS = (
    f"""
    WITH copies AS (
        SELECT x.snapshot_id, x.seq, x.parent_seq, x.role, x.sender_id FROM chat.snapshot_messages x
        JOIN chat.snapshots p ON p.id = x.snapshot_id WHERE p.session_id = :session
    )
    UPDATE chat.snapshot_messages x SET
        {_EMPTIED}, sender_id = CASE WHEN x.sender_id <> :user THEN x.sender_id END,
        deleted_at = coalesce(x.deleted_at, :moment)
    FROM copies c LEFT JOIN copies q ON q.snapshot_id = c.snapshot_id AND q.seq = c.parent_seq
    WHERE x.snapshot_id = c.snapshot_id AND x.seq = c.seq
      AND (c.sender_id = :user OR (c.role = 'assistant' AND q.sender_id = :user))
    """,
    f"""
    UPDATE chat.snapshot_messages SET reactions = {_WITHOUT_REACTIONS}
    WHERE snapshot_id IN (SELECT id FROM chat.snapshots WHERE session_id = :session)
      AND reactions <> '{{}}' AND CAST(reactions AS text) LIKE :pattern
    """,
    f"""
    UPDATE chat.snapshot_messages SET citations = {_without_quotes("citations")}
    WHERE snapshot_id IN (SELECT id FROM chat.snapshots WHERE session_id = :session)
      AND citations <> '[]' AND {_quotes("citations")}
    """,
    f"""
    UPDATE chat.snapshot_messages SET {_UNNAMED_LINE}
    WHERE snapshot_id IN (SELECT id FROM chat.snapshots WHERE session_id = :session) AND {_IS_UNNAMED_LINE}
    """,
)

APPEND_EVENTS = """
    WITH numbered AS (
        UPDATE chat.sessions SET
            last_event_seq = last_event_seq + cardinality(CAST(:types AS text[])), updated_at = now()
        WHERE id = :session RETURNING id, last_event_seq
    ), added AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, message_id, data)
        SELECT n.id, n.last_event_seq - cardinality(CAST(:types AS text[])) + e.place, e.type, e.message_id,
            CASE WHEN e.message_id IS NULL THEN CAST(:data AS jsonb) END
        FROM numbered n,
            unnest(CAST(:types AS text[]), CAST(:messages AS uuid[])) WITH ORDINALITY AS e (type, message_id, place)
    )
    SELECT last_event_seq FROM numbered
"""
"""As many events as there are types; those without a message carry `data`."""

ALONE = """
    SELECT s.id FROM chat.sessions s
    WHERE s.owner_id = :user AND NOT EXISTS (
        SELECT FROM chat.participants p JOIN chat.users u ON u.id = p.user_id
        WHERE p.session_id = s.id AND p.user_id <> :user AND u.erasure_requested_at IS NULL
    )
    ORDER BY s.id LIMIT :limit
"""
"""Sessions of the person in which nobody else is, or nobody who stays."""

DELETE_ALONE = """
    DELETE FROM chat.sessions s WHERE s.id = :session AND s.owner_id = :user AND NOT EXISTS (
        SELECT FROM chat.participants p JOIN chat.users u ON u.id = p.user_id
        WHERE p.session_id = s.id AND p.user_id <> :user AND u.erasure_requested_at IS NULL
    )
    RETURNING s.id
"""

CLOSE_CREDENTIALS = (
    "DELETE FROM chat.ws_tickets WHERE user_id = :user",
    "DELETE FROM chat.api_keys WHERE user_id = :user",
    "DELETE FROM chat.refresh_families WHERE user_id = :user",
)

FORGET_PERSON = (
    "DELETE FROM chat.bot_shares WHERE user_id = :user",
    # Also answers to others that name the person: that they were let into a session, or to a bot.
    """
    DELETE FROM chat.idempotency_keys
    WHERE user_id = :user OR position(convert_to(:id, 'UTF8') IN coalesce(body, '')) > 0
    """,
    """
    DELETE FROM chat.outbox WHERE subject_id IN (
        SELECT d.id FROM chat.webhook_deliveries d JOIN chat.webhook_endpoints w ON w.id = d.endpoint_id
        WHERE w.user_id = :user
    )
    """,
    "DELETE FROM chat.users WHERE id = :user AND erasure_requested_at IS NOT NULL",
)
"""What has to be deleted by hand, and then the account; the rest goes with it (`ON DELETE CASCADE`)."""
