"""Copying a session's messages: from the session to a snapshot, and from a snapshot to a new session."""

from __future__ import annotations

from chat_api.transfer.export_statements import IMPORTED_AUTHOR
from chat_api.transfer.import_statements import COPIED_COLUMNS, insert_messages

_COPIED = tuple(column for column in COPIED_COLUMNS if column not in ("status", "attachments"))
_KEPT = tuple(column for column in _COPIED if column != "metadata")

COPY_MESSAGES = f"""
    WITH numbered AS (
        SELECT m.*, row_number() OVER (ORDER BY m.seq) AS place FROM chat.messages m WHERE m.session_id = :session_id
    ), copied AS (
        INSERT INTO chat.snapshot_messages (
            snapshot_id, seq, message_id, parent_seq, role, sender_id, deleted_at, attachments, status, metadata,
            {", ".join(_KEPT)}
        )
        SELECT CAST(:snapshot_id AS uuid), n.place, n.id, asked.place, n.role, n.sender_id, n.deleted_at, n.attachments,
            CASE WHEN n.status IN ('streaming', 'awaiting_approval') THEN 'cancelled' ELSE n.status END,
            -- The copy of what was sent must not look as if it was brought in under another's name.
            CASE WHEN n.request_hash IS NULL THEN n.metadata ELSE n.metadata - '{IMPORTED_AUTHOR}' END,
            {", ".join(f"n.{column}" for column in _KEPT)}
        FROM numbered n LEFT JOIN numbered asked ON asked.id = n.parent_id AND asked.place < n.place
        RETURNING 1
    )
    SELECT count(*) FROM copied
"""
"""(:session_id, :snapshot_id) → how many. Under the lock of the session's row. A reply that is being written is kept as
far as it is: a copy has no run that would finish it."""

RESTORE_MESSAGES = insert_messages(
    f"""
    SELECT (CAST(:ids AS uuid[]))[c.seq - :after] AS id, c.seq, c.role, c.sender_id, c.deleted_at, c.status,
        CASE WHEN c.attachments = '[]' THEN c.attachments ELSE (
            SELECT coalesce(jsonb_agg(f.named ORDER BY f.place), '[]')
            FROM jsonb_array_elements(c.attachments) WITH ORDINALITY AS f (named, place)
            WHERE (f.named ->> 'id')::uuid = ANY (:files)
        ) END AS attachments,
        {", ".join(f"c.{column}" for column in _COPIED)},
        -- Of the same batch, else of an earlier one. A join would go by a guess of how many there are.
        coalesce((CAST(:ids AS uuid[]))[c.parent_seq - :after], (
            SELECT p.id FROM chat.messages p WHERE p.session_id = :session_id AND p.seq = c.parent_seq
        )) AS parent_id
    FROM chat.snapshot_messages c
    WHERE c.snapshot_id = :snapshot_id AND c.seq > :after AND c.seq <= :after + cardinality(CAST(:ids AS uuid[]))
    """,
    (*_COPIED, "status", "attachments", "deleted_at"),
)
"""(:session_id, :snapshot_id, :after seq, :ids of the new messages, :files that may be named) → the next messages."""

NAMED_FILES = """
    SELECT DISTINCT (f.named ->> 'id')::uuid AS id
    FROM chat.snapshot_messages c, jsonb_array_elements(c.attachments) AS f (named)
    WHERE c.snapshot_id = :snapshot_id AND c.attachments <> '[]'
"""
