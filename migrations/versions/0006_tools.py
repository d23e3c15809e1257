"""Tools: the log of their executions, and runs that wait for a person."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_CREATE = (
    # `progress` counts the attempts up to the last time that the run got further: only those after it are failures.
    # `pending_calls` is how many of its calls wait for a decision; it is here, and not counted, because a statement
    # that waited for the run's row reads the row anew, and nothing else.
    """
    ALTER TABLE chat.runs
        ADD COLUMN pending_calls bigint NOT NULL DEFAULT 0,
        ADD COLUMN progress bigint NOT NULL DEFAULT 0,
        ADD COLUMN stream_position bigint,
        ADD COLUMN said_characters bigint NOT NULL DEFAULT 0,
        ADD COLUMN expired_at timestamptz
    """,
    "ALTER TABLE chat.session_events ADD COLUMN tool_execution_id uuid",
    """
    CREATE TABLE chat.tool_executions (
        session_id uuid NOT NULL,
        id uuid NOT NULL,
        run_id uuid NOT NULL,
        message_id uuid NOT NULL,
        round bigint NOT NULL,
        position bigint NOT NULL,
        call_id text NOT NULL,
        said_characters bigint NOT NULL,
        tool_name text NOT NULL,
        source text NOT NULL,
        risk text NOT NULL,
        repeatable boolean NOT NULL,
        parameters jsonb NOT NULL,
        signature text,
        arguments jsonb NOT NULL,
        model_arguments jsonb,
        redacted_arguments text[] NOT NULL DEFAULT '{}',
        redact_result boolean NOT NULL DEFAULT false,
        status text NOT NULL,
        result text,
        passages jsonb NOT NULL DEFAULT '[]',
        error jsonb,
        attempts bigint NOT NULL DEFAULT 0,
        duration_ms bigint,
        decided_by uuid CONSTRAINT fk_tool_executions_decided_by_users REFERENCES chat.users (id),
        decided_at timestamptz,
        reason text,
        expires_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz,
        CONSTRAINT pk_tool_executions PRIMARY KEY (session_id, id),
        CONSTRAINT uq_tool_executions_id UNIQUE (id),
        CONSTRAINT uq_tool_executions_session_id_run_id_call_id UNIQUE (session_id, run_id, call_id),
        CONSTRAINT fk_tool_executions_session_id_run_id_runs
            FOREIGN KEY (session_id, run_id) REFERENCES chat.runs (session_id, id) ON DELETE CASCADE,
        CONSTRAINT ck_tool_executions_risk CHECK (risk IN ('safe', 'risky')),
        CONSTRAINT ck_tool_executions_status CHECK (status IN (
            'pending_approval', 'approved', 'rejected', 'running', 'succeeded', 'failed', 'timed_out'
        ))
    )
    """,
    "CREATE INDEX ix_tool_executions_decided_by ON chat.tool_executions (decided_by) WHERE decided_by IS NOT NULL",
    "CREATE INDEX ix_tool_executions_expires_at ON chat.tool_executions (expires_at) WHERE status = 'pending_approval'",
)
_DROP = (
    "DROP TABLE chat.tool_executions",
    "ALTER TABLE chat.session_events DROP COLUMN tool_execution_id",
    """
    ALTER TABLE chat.runs
        DROP COLUMN expired_at, DROP COLUMN said_characters, DROP COLUMN stream_position, DROP COLUMN progress,
        DROP COLUMN pending_calls
    """,
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
