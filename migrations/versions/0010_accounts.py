"""The audit log, and accounts that are being erased."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_CREATE: tuple[str, ...] = (
    # No foreign keys: an entry outlives the account and the thing that it speaks of.
    """
    CREATE TABLE chat.audit_log (
        id uuid NOT NULL CONSTRAINT pk_audit_log PRIMARY KEY,
        actor_id uuid,
        action text NOT NULL,
        subject_type text NOT NULL,
        subject_id uuid,
        details jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ix_audit_log_created_at_id ON chat.audit_log (created_at, id)",
    "CREATE INDEX ix_audit_log_actor_id_created_at_id ON chat.audit_log (actor_id, created_at, id)",
    "CREATE INDEX ix_audit_log_subject_id_created_at_id ON chat.audit_log (subject_id, created_at, id)",
    "CREATE INDEX ix_audit_log_action_created_at_id ON chat.audit_log (action, created_at, id)",
    # What is being erased cannot be opened again.
    """
    ALTER TABLE chat.users
        ADD COLUMN erasure_requested_at timestamptz,
        ADD CONSTRAINT ck_users_erased_is_closed CHECK (erasure_requested_at IS NULL OR NOT is_active)
    """,
    # Asked every second by every process: who was closed while an access token of theirs may be good.
    "CREATE INDEX ix_users_closed ON chat.users (updated_at) WHERE NOT is_active",
)
_DROP: tuple[str, ...] = (
    "DROP INDEX chat.ix_users_closed",
    "ALTER TABLE chat.users DROP CONSTRAINT ck_users_erased_is_closed, DROP COLUMN erasure_requested_at",
    "DROP TABLE chat.audit_log",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
