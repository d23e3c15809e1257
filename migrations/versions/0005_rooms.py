"""Rooms: files named in messages, reactions, tickets for sockets, and context from a related session."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_CREATE = (
    # In the order in which the services lock these tables, sessions first: so nobody waits in a circle with them.
    # Rises whenever somebody goes: a send that waited for the row sees in it that its sender may be gone.
    "ALTER TABLE chat.sessions ADD COLUMN membership_version bigint NOT NULL DEFAULT 0",
    "ALTER TABLE chat.runs ADD COLUMN include_related_context boolean NOT NULL DEFAULT true",
    # Both are what the wire shows, kept with the message: history reads them without a join.
    """
    ALTER TABLE chat.messages
        ADD COLUMN attachments jsonb NOT NULL DEFAULT '[]',
        ADD COLUMN reactions jsonb NOT NULL DEFAULT '{}'
    """,
    """
    CREATE TABLE chat.attachments (
        id uuid NOT NULL CONSTRAINT pk_attachments PRIMARY KEY,
        owner_id uuid NOT NULL CONSTRAINT fk_attachments_owner_id_users REFERENCES chat.users (id),
        name text NOT NULL,
        content_type text NOT NULL,
        size_bytes bigint NOT NULL,
        sha256 bytea NOT NULL,
        storage_key text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_attachments_owner_id ON chat.attachments (owner_id)",
    "CREATE INDEX ix_attachments_created_at ON chat.attachments (created_at)",
    # Who takes part in a session may read what its messages name. One file may be named by several messages.
    """
    CREATE TABLE chat.message_attachments (
        session_id uuid NOT NULL,
        message_id uuid NOT NULL,
        attachment_id uuid NOT NULL
            CONSTRAINT fk_message_attachments_attachment_id_attachments REFERENCES chat.attachments (id),
        CONSTRAINT pk_message_attachments PRIMARY KEY (session_id, message_id, attachment_id),
        CONSTRAINT fk_message_attachments_session_id_message_id_messages
            FOREIGN KEY (session_id, message_id) REFERENCES chat.messages (session_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_message_attachments_attachment_id ON chat.message_attachments (attachment_id)",
    """
    CREATE TABLE chat.ws_tickets (
        ticket_hash bytea NOT NULL CONSTRAINT pk_ws_tickets PRIMARY KEY,
        user_id uuid NOT NULL CONSTRAINT fk_ws_tickets_user_id_users REFERENCES chat.users (id) ON DELETE CASCADE,
        api_key_id uuid CONSTRAINT fk_ws_tickets_api_key_id_api_keys REFERENCES chat.api_keys (id) ON DELETE CASCADE,
        scopes text[] NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ix_ws_tickets_user_id ON chat.ws_tickets (user_id)",
    "CREATE INDEX ix_ws_tickets_api_key_id ON chat.ws_tickets (api_key_id)",
    "CREATE INDEX ix_ws_tickets_expires_at ON chat.ws_tickets (expires_at)",
)
_DROP = (
    "ALTER TABLE chat.sessions DROP COLUMN membership_version",
    "ALTER TABLE chat.runs DROP COLUMN include_related_context",
    "DROP TABLE chat.ws_tickets",
    "DROP TABLE chat.message_attachments",
    "DROP TABLE chat.attachments",
    "ALTER TABLE chat.messages DROP COLUMN reactions, DROP COLUMN attachments",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
