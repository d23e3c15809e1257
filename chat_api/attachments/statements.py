"""Single statements about attachments: where a file is, and who may read it."""

from __future__ import annotations

# Messages live in a later layer, hence plain SQL.
READABLE = """
    SELECT f.name, f.content_type, f.size_bytes, f.storage_key FROM chat.attachments f
    WHERE f.id = $1 AND (f.owner_id = $2 OR EXISTS (
        SELECT 1 FROM chat.message_attachments n
        JOIN chat.messages m ON m.session_id = n.session_id AND m.id = n.message_id AND m.deleted_at IS NULL
        JOIN chat.participants p ON p.session_id = n.session_id AND p.user_id = $2
        WHERE n.attachment_id = f.id
    ))
"""
"""($1 attachment, $2 caller) → the file, if it is theirs, or a message names it in a session that they take part in."""

OWNED = "SELECT count(*) AS files FROM chat.attachments WHERE id = ANY($1::uuid[]) AND owner_id = $2"
"""($1 attachments, $2 person) → how many of these are theirs."""

STORED_AT = "SELECT id, storage_key FROM chat.attachments WHERE id = ANY($1::uuid[])"
"""($1 attachments) → where the bytes of each are."""
