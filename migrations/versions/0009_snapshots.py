"""Snapshots, and what was imported from where.

A snapshot's messages have the columns of `chat.messages` that are content, numbered 1, 2, 3 … without gaps. They go
with the session. What somebody else than the session's owner takes back is taken out of its snapshots in the same
transaction, by a trigger: whoever deletes a message need not know of snapshots.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_CREATE = (
    """
    CREATE TABLE chat.snapshots (
        id uuid NOT NULL CONSTRAINT pk_snapshots PRIMARY KEY,
        session_id uuid NOT NULL
            CONSTRAINT fk_snapshots_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        title text NOT NULL,
        session jsonb NOT NULL,
        message_count bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_snapshots_session_id_created_at_id ON chat.snapshots (session_id, created_at, id)",
    """
    CREATE TABLE chat.snapshot_messages (
        snapshot_id uuid NOT NULL
            CONSTRAINT fk_snapshot_messages_snapshot_id_snapshots REFERENCES chat.snapshots (id) ON DELETE CASCADE,
        seq bigint NOT NULL,
        message_id uuid NOT NULL,
        parent_seq bigint,
        role text NOT NULL,
        sender_id uuid CONSTRAINT fk_snapshot_messages_sender_id_users REFERENCES chat.users (id),
        content text NOT NULL,
        status text NOT NULL,
        provider text,
        model text,
        prompt_tokens bigint,
        completion_tokens bigint,
        total_tokens bigint,
        cost numeric(18, 9),
        latency_ms bigint,
        time_to_first_token_ms bigint,
        citations jsonb NOT NULL,
        attachments jsonb NOT NULL,
        reactions jsonb NOT NULL,
        tools_used text[] NOT NULL,
        error jsonb,
        metadata jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        edited_at timestamptz,
        deleted_at timestamptz,
        CONSTRAINT pk_snapshot_messages PRIMARY KEY (snapshot_id, seq)
    )
    """,
    "CREATE INDEX ix_snapshot_messages_message_id ON chat.snapshot_messages (message_id)",
    "CREATE INDEX ix_snapshot_messages_sender_id ON chat.snapshot_messages (sender_id) WHERE sender_id IS NOT NULL",
    """
    CREATE FUNCTION chat.forget_in_snapshots() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE chat.snapshot_messages x SET
            content = '', metadata = '{}', citations = '[]', attachments = '[]', reactions = '{}', error = NULL,
            deleted_at = NEW.deleted_at
        FROM chat.snapshots p, chat.sessions s
        WHERE x.message_id = NEW.id AND p.id = x.snapshot_id AND p.session_id = NEW.session_id
          AND s.id = p.session_id AND s.owner_id <> x.sender_id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER forget_in_snapshots AFTER UPDATE OF deleted_at ON chat.messages
        FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
        EXECUTE FUNCTION chat.forget_in_snapshots()
    """,
    # The same conversation, brought by the same person again, is the session that it became. `source_id` is the id that
    # it had where it came from; the hash is of its content.
    """
    CREATE TABLE chat.imports (
        user_id uuid NOT NULL CONSTRAINT fk_imports_user_id_users REFERENCES chat.users (id) ON DELETE CASCADE,
        source text NOT NULL,
        source_id text NOT NULL,
        content_hash bytea NOT NULL,
        session_id uuid NOT NULL
            CONSTRAINT fk_imports_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_imports PRIMARY KEY (user_id, source, source_id, content_hash)
    )
    """,
    "CREATE INDEX ix_imports_session_id ON chat.imports (session_id)",
)
_DROP = (
    "DROP TABLE chat.imports",
    "DROP TRIGGER forget_in_snapshots ON chat.messages",
    "DROP FUNCTION chat.forget_in_snapshots",
    "DROP TABLE chat.snapshot_messages",
    "DROP TABLE chat.snapshots",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
