"""Stored answers of idempotent requests."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE chat.idempotency_keys (
            user_id uuid NOT NULL,
            key text NOT NULL,
            request_hash bytea NOT NULL,
            status bigint,
            body bytea,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_idempotency_keys PRIMARY KEY (user_id, key)
        )
        """
    )
    op.execute("CREATE INDEX ix_idempotency_keys_created_at ON chat.idempotency_keys (created_at)")


def downgrade() -> None:
    op.execute("DROP TABLE chat.idempotency_keys")
