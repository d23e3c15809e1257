"""Webhooks and the log of their deliveries.

What is to be told is stored with the event itself, by a trigger on the log of events: so it is with every event, by
whichever statement it came, and with none that was rolled back. Without webhooks the trigger looks into an empty
table, once a statement.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# A UUIDv7. PostgreSQL makes its own from version 18 on.
_NEW_ID = """(
    lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
    || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid"""

_CREATE: tuple[str, ...] = (
    """
    CREATE TABLE chat.webhook_endpoints (
        id uuid NOT NULL CONSTRAINT pk_webhook_endpoints PRIMARY KEY,
        user_id uuid NOT NULL
            CONSTRAINT fk_webhook_endpoints_user_id_users REFERENCES chat.users (id) ON DELETE CASCADE,
        url text NOT NULL,
        description text NOT NULL DEFAULT '',
        event_types text[] NOT NULL DEFAULT '{}',
        secret bytea NOT NULL,
        previous_secret bytea,
        previous_secret_until timestamptz,
        disabled_at timestamptz,
        disabled_reason text,
        failures bigint NOT NULL DEFAULT 0,
        failing_since timestamptz,
        paused_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT ck_webhook_endpoints_disabled_reason CHECK (disabled_reason IN ('owner', 'gone', 'failing')),
        CONSTRAINT ck_webhook_endpoints_disabled_with_reason
            CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
    )
    """,
    "CREATE INDEX ix_webhook_endpoints_user_id_id ON chat.webhook_endpoints (user_id, id)",
    # No reference to the session: what was told stays on record when it is deleted, and holds nothing of its text.
    """
    CREATE TABLE chat.webhook_deliveries (
        id uuid NOT NULL CONSTRAINT pk_webhook_deliveries PRIMARY KEY,
        endpoint_id uuid NOT NULL
            CONSTRAINT fk_webhook_deliveries_endpoint_id_webhook_endpoints
            REFERENCES chat.webhook_endpoints (id) ON DELETE CASCADE,
        session_id uuid,
        event_seq bigint,
        type text NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        attempts bigint NOT NULL DEFAULT 0,
        response_status bigint,
        problem jsonb,
        duration_ms bigint,
        next_attempt_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        CONSTRAINT ck_webhook_deliveries_status CHECK (status IN ('pending', 'delivered', 'failed', 'cancelled'))
    )
    """,
    "CREATE INDEX ix_webhook_deliveries_endpoint_id_id ON chat.webhook_deliveries (endpoint_id, id)",
    "CREATE INDEX ix_webhook_deliveries_finished_at ON chat.webhook_deliveries (finished_at)",
    f"""
    CREATE FUNCTION chat.tell_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM chat.webhook_endpoints) THEN
            WITH wanted AS (
                SELECT {_NEW_ID} AS id, w.id AS endpoint_id, n.session_id, n.event_seq, n.type
                FROM added n
                JOIN chat.sessions s ON s.id = n.session_id
                JOIN chat.webhook_endpoints w ON w.user_id = s.owner_id
                WHERE w.disabled_at IS NULL AND (w.event_types = '{{}}' OR n.type = ANY (w.event_types))
            ), stored AS (
                INSERT INTO chat.webhook_deliveries (id, endpoint_id, session_id, event_seq, type)
                SELECT id, endpoint_id, session_id, event_seq, type FROM wanted
            )
            INSERT INTO chat.outbox (id, topic, subject_id) SELECT {_NEW_ID}, 'webhook.deliver', id FROM wanted;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER tell_webhooks AFTER INSERT ON chat.session_events
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION chat.tell_webhooks()
    """,
)
_DROP: tuple[str, ...] = (
    "DROP TRIGGER tell_webhooks ON chat.session_events",
    "DROP FUNCTION chat.tell_webhooks()",
    "DROP TABLE chat.webhook_deliveries",
    "DROP TABLE chat.webhook_endpoints",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
