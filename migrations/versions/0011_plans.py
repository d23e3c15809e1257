"""Plans: what is used of a quota."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_CREATE: tuple[str, ...] = (
    # A person's day is the sum of a few rows, so that messages to several sessions at once need not wait for each
    # other's commits. Shard 0 is for the last messages before the quota, which do: `allowed` is what is left for it.
    """
    CREATE TABLE chat.user_days (
        user_id uuid NOT NULL CONSTRAINT fk_user_days_user_id_users REFERENCES chat.users (id) ON DELETE CASCADE,
        day date NOT NULL,
        shard smallint NOT NULL,
        messages bigint NOT NULL DEFAULT 0,
        tokens bigint NOT NULL DEFAULT 0,
        allowed bigint,
        CONSTRAINT pk_user_days PRIMARY KEY (user_id, day, shard),
        CONSTRAINT ck_user_days_messages CHECK (messages <= allowed)
    ) WITH (fillfactor = 50)
    """,
    # Only what a run used more than before, whoever writes it: its end, its pauses, its recovery. A row that is
    # inserted with its usage is a copy of something that was used elsewhere.
    """
    CREATE FUNCTION chat.count_run_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO chat.user_days AS d (user_id, day, shard, tokens)
        SELECT u.id, (now() AT TIME ZONE 'UTC')::date, 1 + pg_backend_pid() % 15, used.more
        FROM chat.users u, (SELECT
            coalesce((NEW.usage ->> 'total_tokens')::bigint, 0) - coalesce((OLD.usage ->> 'total_tokens')::bigint, 0)
        ) AS used (more)
        WHERE u.id = NEW.requested_by AND used.more > 0
        ON CONFLICT (user_id, day, shard) DO UPDATE SET tokens = d.tokens + excluded.tokens;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER count_run_tokens AFTER UPDATE OF usage ON chat.runs FOR EACH ROW
    WHEN (NEW.usage IS DISTINCT FROM OLD.usage) EXECUTE FUNCTION chat.count_run_tokens()
    """,
)
_DROP: tuple[str, ...] = (
    "DROP TRIGGER count_run_tokens ON chat.runs",
    "DROP FUNCTION chat.count_run_tokens()",
    "DROP TABLE chat.user_days",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
