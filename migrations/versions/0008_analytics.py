"""Analytics: what runs used and cost, and figures by day.

Each change of a row that counts leaves a small delta in the same transaction, with the opposite of what counted
before. The worker folds deltas into rows by day; who reads adds those that are not folded yet. So the figures are at
any moment what a recount would give.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = (
    """
    ALTER TABLE chat.runs
        ADD COLUMN requested_by uuid,
        ADD COLUMN provider text,
        ADD COLUMN model text,
        ADD COLUMN cost numeric(18, 9),
        ADD COLUMN latency_ms bigint,
        ADD COLUMN time_to_first_token_ms bigint
    """,
    # The run's, because a session that is deleted takes its runs first, and what counted has to be known after that.
    "ALTER TABLE chat.tool_executions ADD COLUMN requested_by uuid",
)


def _days(table: str, key: str, columns: str) -> str:
    return f"""
    CREATE TABLE chat.{table} (
        {columns}
        day date NOT NULL,
        subject text NOT NULL,
        provider text NOT NULL,
        name text NOT NULL,
        outcome text NOT NULL,
        number bigint NOT NULL,
        prompt_tokens bigint NOT NULL,
        completion_tokens bigint NOT NULL,
        total_tokens bigint NOT NULL,
        cost numeric NOT NULL,
        durations jsonb NOT NULL,
        first_tokens jsonb NOT NULL,
        CONSTRAINT pk_{table} PRIMARY KEY ({key}day, subject, provider, name, outcome)
    ) WITH (fillfactor = 80)
    """


_TABLES = (
    # Written once, read by every fold and every reader, and gone: an index would cost more than it finds.
    """
    CREATE TABLE chat.analytics_deltas (
        day date NOT NULL,
        user_id uuid,
        subject text NOT NULL,
        provider text NOT NULL DEFAULT '',
        name text NOT NULL,
        outcome text NOT NULL DEFAULT '',
        number bigint NOT NULL,
        prompt_tokens bigint NOT NULL DEFAULT 0,
        completion_tokens bigint NOT NULL DEFAULT 0,
        total_tokens bigint NOT NULL DEFAULT 0,
        cost numeric NOT NULL DEFAULT 0,
        timed bigint NOT NULL DEFAULT 0,
        duration_ms bigint,
        first_token_ms bigint
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
    """,
    _days("analytics_days", "", ""),
    _days("analytics_user_days", "user_id, ", "user_id uuid NOT NULL,"),
    # Who was active between two days, and who used the most, whoever they are.
    """
    CREATE INDEX ix_analytics_user_days_day_subject_user_id
        ON chat.analytics_user_days (day, subject, user_id) INCLUDE (number, total_tokens)
    """,
    # What nothing is left of is taken out by the fold that finds it so.
    "CREATE INDEX ix_analytics_days_empty ON chat.analytics_days (day) WHERE number = 0",
    "CREATE INDEX ix_analytics_user_days_empty ON chat.analytics_user_days (day) WHERE number = 0",
)


def _day(row: str) -> str:
    return f"({row}.created_at AT TIME ZONE 'UTC')::date"


def _session(row: str, sign: str) -> str:
    return f"""
        INSERT INTO chat.analytics_deltas (day, user_id, subject, name, number)
        VALUES ({_day(row)}, {row}.owner_id, 'session', {row}.status, {sign}1);
    """


def _message(row: str, sign: str) -> str:
    return f"""
        INSERT INTO chat.analytics_deltas (day, user_id, subject, name, number)
        VALUES ({_day(row)}, {row}.sender_id, 'message', {row}.role, {sign}1);
    """


_RUN_COLUMNS = """(
            day, user_id, subject, provider, name, outcome, number, prompt_tokens, completion_tokens, total_tokens,
            cost, timed, duration_ms, first_token_ms
        )"""


def _run(row: str, sign: str) -> str:
    return f"""
            {_day(row)}, {row}.requested_by, 'run', coalesce({row}.provider, ''), coalesce({row}.model, ''),
            {row}.status, {sign}1,
            {sign}coalesce(({row}.usage ->> 'prompt_tokens')::bigint, 0),
            {sign}coalesce(({row}.usage ->> 'completion_tokens')::bigint, 0),
            {sign}coalesce(({row}.usage ->> 'total_tokens')::bigint, 0),
            {sign}coalesce({row}.cost, 0), {sign}1,
            CASE WHEN {row}.status = 'completed' THEN {row}.latency_ms END,
            CASE WHEN {row}.status = 'completed' THEN {row}.time_to_first_token_ms END
    """


_TOOL_COLUMNS = "(day, user_id, subject, provider, name, outcome, number, timed, duration_ms)"


def _tool(row: str, sign: str) -> str:
    return f"""
            {_day(row)}, {row}.requested_by, 'tool', {row}.source, {row}.tool_name, {row}.status, {sign}1, {sign}1,
            {row}.duration_ms
    """


def _function(name: str, body: str) -> str:
    return f"""
    CREATE FUNCTION chat.{name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        {body}
        RETURN NULL;
    END
    $$
    """


_INTO = "INSERT INTO chat.analytics_deltas"

# Rows that come or change are counted one by one: with one or two of them, as on the way of every message, that is
# less work than a table of what changed. Rows that go may be a whole history, and are counted at once.
_FUNCTIONS = (
    _function(
        "analytics_of_session",
        f"""
        IF TG_OP <> 'INSERT' THEN {_session("OLD", "-")} END IF;
        IF TG_OP <> 'DELETE' THEN {_session("NEW", "")} END IF;
        """,
    ),
    _function(
        "analytics_of_message",
        f"""
        IF TG_OP = 'UPDATE' AND OLD.deleted_at IS NULL THEN {_message("OLD", "-")} END IF;
        IF NEW.deleted_at IS NULL THEN {_message("NEW", "")} END IF;
        """,
    ),
    _function(
        "analytics_of_messages_gone",
        f"""
        {_INTO} (day, user_id, subject, name, number)
        SELECT {_day("m")}, m.sender_id, 'message', m.role, -count(*)
        FROM gone m WHERE m.deleted_at IS NULL GROUP BY 1, 2, 4;
        """,
    ),
    _function(
        "analytics_of_run",
        f"""
        IF TG_OP = 'UPDATE' AND OLD.finished_at IS NOT NULL THEN
            {_INTO} {_RUN_COLUMNS} VALUES ({_run("OLD", "-")});
        END IF;
        IF NEW.finished_at IS NOT NULL THEN
            {_INTO} {_RUN_COLUMNS} VALUES ({_run("NEW", "")});
        END IF;
        """,
    ),
    _function(
        "analytics_of_runs_gone",
        f"{_INTO} {_RUN_COLUMNS} SELECT {_run('r', '-')} FROM gone r WHERE r.finished_at IS NOT NULL;",
    ),
    _function(
        "analytics_of_tool",
        f"""
        IF TG_OP = 'UPDATE' AND OLD.finished_at IS NOT NULL THEN
            {_INTO} {_TOOL_COLUMNS} VALUES ({_tool("OLD", "-")});
        END IF;
        IF NEW.finished_at IS NOT NULL THEN
            {_INTO} {_TOOL_COLUMNS} VALUES ({_tool("NEW", "")});
        END IF;
        """,
    ),
    _function(
        "analytics_of_tools_gone",
        f"{_INTO} {_TOOL_COLUMNS} SELECT {_tool('t', '-')} FROM gone t WHERE t.finished_at IS NOT NULL;",
    ),
)


def _trigger(name: str, event: str, table: str, function: str, condition: str = "") -> str:
    when = f"WHEN ({condition})" if condition else ""
    return f"""
    CREATE TRIGGER {name} AFTER {event} ON chat.{table} FOR EACH ROW {when} EXECUTE FUNCTION chat.{function}()
    """


def _trigger_gone(table: str, function: str) -> str:
    return f"""
    CREATE TRIGGER analytics_deleted AFTER DELETE ON chat.{table} REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION chat.{function}()
    """


_TRIGGERS = (
    _trigger("analytics_added", "INSERT OR DELETE", "sessions", "analytics_of_session"),
    _trigger(
        "analytics_changed",
        "UPDATE OF owner_id, status, created_at",
        "sessions",
        "analytics_of_session",
        "(OLD.owner_id, OLD.status, OLD.created_at) IS DISTINCT FROM (NEW.owner_id, NEW.status, NEW.created_at)",
    ),
    _trigger("analytics_added", "INSERT", "messages", "analytics_of_message", "NEW.deleted_at IS NULL"),
    _trigger(
        "analytics_changed",
        "UPDATE OF role, sender_id, created_at, deleted_at",
        "messages",
        "analytics_of_message",
        "(OLD.role, OLD.sender_id, OLD.created_at, OLD.deleted_at)"
        " IS DISTINCT FROM (NEW.role, NEW.sender_id, NEW.created_at, NEW.deleted_at)",
    ),
    _trigger_gone("messages", "analytics_of_messages_gone"),
    _trigger("analytics_added", "INSERT", "runs", "analytics_of_run", "NEW.finished_at IS NOT NULL"),
    _trigger(
        "analytics_changed",
        "UPDATE OF requested_by, status, provider, model, usage, cost, latency_ms, time_to_first_token_ms, created_at,"
        " finished_at",
        "runs",
        "analytics_of_run",
        "OLD.finished_at IS NOT NULL OR NEW.finished_at IS NOT NULL",
    ),
    _trigger_gone("runs", "analytics_of_runs_gone"),
    _trigger("analytics_added", "INSERT", "tool_executions", "analytics_of_tool", "NEW.finished_at IS NOT NULL"),
    _trigger(
        "analytics_changed",
        "UPDATE OF requested_by, source, tool_name, status, duration_ms, created_at, finished_at",
        "tool_executions",
        "analytics_of_tool",
        "(OLD.requested_by, OLD.source, OLD.tool_name, OLD.status, OLD.duration_ms, OLD.created_at, OLD.finished_at)"
        " IS DISTINCT FROM"
        " (NEW.requested_by, NEW.source, NEW.tool_name, NEW.status, NEW.duration_ms, NEW.created_at, NEW.finished_at)",
    ),
    _trigger_gone("tool_executions", "analytics_of_tools_gone"),
)

# What was there before is counted by the worker: here, every writer would wait for it.
_COUNT_WHAT_IS_THERE = """
    INSERT INTO chat.outbox (id, topic, subject_id)
    SELECT gen_random_uuid(), 'analytics.recount', gen_random_uuid() WHERE EXISTS (SELECT FROM chat.sessions)
"""

_CREATE = (*_COLUMNS, *_TABLES, *_FUNCTIONS, *_TRIGGERS, _COUNT_WHAT_IS_THERE)
_DROP = (
    *(
        f"DROP TRIGGER {name} ON chat.{table}"
        for table, names in {
            "sessions": ("analytics_added", "analytics_changed"),
            "messages": ("analytics_added", "analytics_changed", "analytics_deleted"),
            "runs": ("analytics_added", "analytics_changed", "analytics_deleted"),
            "tool_executions": ("analytics_added", "analytics_changed", "analytics_deleted"),
        }.items()
        for name in names
    ),
    *(
        f"DROP FUNCTION chat.analytics_of_{name}()"
        for name in ("session", "message", "messages_gone", "run", "runs_gone", "tool", "tools_gone")
    ),
    *(f"DROP TABLE chat.{name}" for name in ("analytics_user_days", "analytics_days", "analytics_deltas")),
    "DELETE FROM chat.outbox WHERE topic = 'analytics.recount'",
    "ALTER TABLE chat.tool_executions DROP COLUMN requested_by",
    """
    ALTER TABLE chat.runs
        DROP COLUMN time_to_first_token_ms, DROP COLUMN latency_ms, DROP COLUMN cost, DROP COLUMN model,
        DROP COLUMN provider, DROP COLUMN requested_by
    """,
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
