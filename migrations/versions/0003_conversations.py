"""Sessions, participants, messages, runs and the event log of each session.

Every table leads its primary key with the session, so that they can be partitioned or distributed by it.
`sessions` and `runs` leave room on their pages: their rows change often, and a change that stays on its
page touches no index.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE chat.sessions (
        id uuid NOT NULL CONSTRAINT pk_sessions PRIMARY KEY,
        title text NOT NULL,
        owner_id uuid NOT NULL CONSTRAINT fk_sessions_owner_id_users REFERENCES chat.users (id),
        bot_id uuid,
        provider text,
        model text,
        system_prompt text,
        related_session_id uuid,
        reply_policy text,
        approval_mode text NOT NULL DEFAULT 'risky',
        status text NOT NULL DEFAULT 'active',
        tags text[] NOT NULL DEFAULT '{}',
        metadata jsonb NOT NULL DEFAULT '{}',
        settings jsonb NOT NULL DEFAULT '{}',
        participant_count bigint NOT NULL DEFAULT 1,
        message_count bigint NOT NULL DEFAULT 0,
        last_seq bigint NOT NULL DEFAULT 0,
        last_event_seq bigint NOT NULL DEFAULT 0,
        last_activity_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT ck_sessions_reply_policy CHECK (reply_policy IN ('always', 'mentioned', 'never')),
        CONSTRAINT ck_sessions_approval_mode CHECK (approval_mode IN ('never', 'risky', 'always')),
        CONSTRAINT ck_sessions_status CHECK (status IN ('active', 'archived'))
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX ix_sessions_owner_id ON chat.sessions (owner_id)",
    """
    CREATE TABLE chat.participants (
        session_id uuid NOT NULL
            CONSTRAINT fk_participants_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        user_id uuid NOT NULL CONSTRAINT fk_participants_user_id_users REFERENCES chat.users (id),
        role text NOT NULL,
        last_read_seq bigint NOT NULL DEFAULT 0,
        joined_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_participants PRIMARY KEY (session_id, user_id),
        CONSTRAINT ck_participants_role CHECK (role IN ('owner', 'member'))
    )
    """,
    "CREATE INDEX ix_participants_user_id_session_id ON chat.participants (user_id, session_id)",
    """
    CREATE TABLE chat.messages (
        session_id uuid NOT NULL
            CONSTRAINT fk_messages_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        seq bigint NOT NULL,
        id uuid NOT NULL,
        role text NOT NULL,
        sender_id uuid CONSTRAINT fk_messages_sender_id_users REFERENCES chat.users (id),
        content text NOT NULL,
        parent_id uuid,
        run_id uuid,
        status text NOT NULL DEFAULT 'complete',
        provider text,
        model text,
        prompt_tokens bigint,
        completion_tokens bigint,
        total_tokens bigint,
        cost numeric(18, 9),
        latency_ms bigint,
        time_to_first_token_ms bigint,
        citations jsonb NOT NULL DEFAULT '[]',
        tools_used text[] NOT NULL DEFAULT '{}',
        error jsonb,
        metadata jsonb NOT NULL DEFAULT '{}',
        client_id text,
        request_hash bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        edited_at timestamptz,
        deleted_at timestamptz,
        CONSTRAINT pk_messages PRIMARY KEY (session_id, seq),
        CONSTRAINT uq_messages_session_id_id UNIQUE (session_id, id),
        CONSTRAINT ck_messages_role CHECK (role IN ('user', 'assistant', 'system', 'tool')),
        CONSTRAINT ck_messages_status
            CHECK (status IN ('complete', 'streaming', 'awaiting_approval', 'failed', 'cancelled'))
    )
    """,
    """
    CREATE UNIQUE INDEX uq_messages_session_id_sender_id_client_id
        ON chat.messages (session_id, sender_id, client_id) WHERE client_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_messages_session_id_parent_id
        ON chat.messages (session_id, parent_id) WHERE parent_id IS NOT NULL
    """,
    """
    CREATE TABLE chat.message_revisions (
        session_id uuid NOT NULL,
        message_id uuid NOT NULL,
        revision bigint NOT NULL,
        content text NOT NULL,
        written_at timestamptz NOT NULL,
        replaced_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_message_revisions PRIMARY KEY (session_id, message_id, revision),
        CONSTRAINT fk_message_revisions_session_id_message_id_messages
            FOREIGN KEY (session_id, message_id) REFERENCES chat.messages (session_id, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE chat.runs (
        session_id uuid NOT NULL
            CONSTRAINT fk_runs_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        id uuid NOT NULL,
        trigger_message_id uuid NOT NULL,
        reply_message_id uuid,
        status text NOT NULL DEFAULT 'queued',
        error jsonb,
        usage jsonb,
        attempt bigint NOT NULL DEFAULT 0,
        lease_owner text,
        lease_expires_at timestamptz,
        cancel_requested_at timestamptz,
        stream_length bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz,
        CONSTRAINT pk_runs PRIMARY KEY (session_id, id),
        CONSTRAINT uq_runs_id UNIQUE (id),
        CONSTRAINT ck_runs_status
            CHECK (status IN ('queued', 'running', 'awaiting_approval', 'completed', 'failed', 'cancelled'))
    ) WITH (fillfactor = 80)
    """,
    # At most one run of a session is active: the index decides races between processes.
    """
    CREATE UNIQUE INDEX uq_runs_session_id_active
        ON chat.runs (session_id) WHERE status IN ('running', 'awaiting_approval')
    """,
    "CREATE INDEX ix_runs_waiting ON chat.runs (session_id, created_at, id) WHERE status = 'queued'",
    "CREATE INDEX ix_runs_leased ON chat.runs (lease_expires_at) WHERE status = 'running'",
    """
    CREATE TABLE chat.session_events (
        session_id uuid NOT NULL
            CONSTRAINT fk_session_events_session_id_sessions REFERENCES chat.sessions (id) ON DELETE CASCADE,
        event_seq bigint NOT NULL,
        type text NOT NULL,
        message_id uuid,
        run_id uuid,
        data jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_session_events PRIMARY KEY (session_id, event_seq)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("session_events", "runs", "message_revisions", "messages", "participants", "sessions"):
        op.execute(f"DROP TABLE chat.{table}")
