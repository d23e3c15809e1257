"""Figures as PostgreSQL sums them: from days and deltas, or from the rows themselves.

A reader adds the days and the deltas that are not in them yet, in one statement and therefore one snapshot. A fold
moves deltas into days in one transaction. So nobody ever sees a change twice, or not at all.
"""

from __future__ import annotations

from chat_api.analytics.histogram import BUCKET

KEYS = ("day", "subject", "provider", "name", "outcome")
SUMS = ("number", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
HISTOGRAMS = ("durations", "first_tokens")
_MEASURES = (*SUMS, *HISTOGRAMS)
EVERYBODY = ("analytics_days", KEYS)
PEOPLE = ("analytics_user_days", ("user_id", *KEYS))


def _sums_of_rows() -> str:
    return ", ".join(f"sum({name})::{'numeric' if name == 'cost' else 'bigint'} AS {name}" for name in SUMS)


def _histogram(bucket: str) -> str:
    return f"CASE WHEN {bucket} IS NULL THEN '{{}}' ELSE jsonb_build_object({bucket}::text, timed) END"


def from_deltas(source: str, condition: str = "true", *, people: bool = True) -> str:
    """Deltas in the shape of days. What they have in common is summed first: most are one more message of a day.

    Without `people` nobody is told apart.
    """
    person = "user_id" if people else "NULL::uuid"
    return f"""
        SELECT day, user_id, subject, provider, name, outcome, {", ".join(SUMS)},
            {_histogram("duration")} AS durations, {_histogram("first_token")} AS first_tokens
        FROM (
            SELECT day, {person} AS user_id, subject, provider, name, outcome, {_sums_of_rows()},
                sum(timed)::bigint AS timed, {BUCKET.format("duration_ms")} AS duration,
                {BUCKET.format("first_token_ms")} AS first_token
            FROM {source} WHERE {condition}
            GROUP BY day, {"user_id, " if people else ""}subject, provider, name, outcome, duration, first_token
        ) alike
    """


def summed(facts: str, keys: tuple[str, ...]) -> str:
    """A query that sums the rows of the CTE `facts` by `keys`, none of which may be null; histograms too."""
    by = ", ".join(keys)
    histograms = "\n".join(
        f"""
        LEFT JOIN (
            SELECT {by}, jsonb_object_agg(bucket, times) AS {name} FROM (
                SELECT {by}, h.key AS bucket, sum(h.value::bigint) AS times
                FROM {facts} f, jsonb_each_text(f.{name}) h WHERE f.{name} <> '{{}}'
                GROUP BY {by}, h.key HAVING sum(h.value::bigint) <> 0
            ) buckets GROUP BY {by}
        ) of_{name} USING ({by})"""
        for name in HISTOGRAMS
    )
    return f"""
        SELECT {by}, {", ".join(SUMS)}, {", ".join(f"coalesce({name}, '{{}}') AS {name}" for name in HISTOGRAMS)}
        FROM (SELECT {by}, {_sums_of_rows()} FROM {facts} GROUP BY {by}) of_sums {histograms}
    """


# ---- folding

FOLD_LOCK = "SELECT pg_advisory_xact_lock(hashtext('colloquy analytics fold'))"
"""One fold at a time: two would wait for each other's days in different orders."""


def _merged(table: str, name: str) -> str:
    return f"""CASE WHEN excluded.{name} = '{{}}' THEN {table}.{name} ELSE (
            SELECT coalesce(jsonb_object_agg(bucket, times), '{{}}') FROM (
                SELECT h.key AS bucket, sum(h.value::bigint) AS times FROM (
                    SELECT * FROM jsonb_each_text({table}.{name})
                    UNION ALL SELECT * FROM jsonb_each_text(excluded.{name})
                ) h GROUP BY h.key HAVING sum(h.value::bigint) <> 0
            ) merged
        ) END"""


def added_to(table: str, keys: tuple[str, ...], sums: str) -> str:
    changed = ", ".join(
        [f"{name} = {table}.{name} + excluded.{name}" for name in SUMS]
        + [f"{name} = {_merged(table, name)}" for name in HISTOGRAMS]
    )
    columns = ", ".join((*keys, *_MEASURES))
    return f"""
        INSERT INTO chat.{table} ({columns}) SELECT {columns} FROM ({sums}) summed
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET {changed}
    """


FOLD = f"""
    WITH gone AS (
        DELETE FROM chat.analytics_deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM chat.analytics_deltas LIMIT :most))
        RETURNING *
    ), facts AS MATERIALIZED (
        {from_deltas("gone")}
    ), of_people AS MATERIALIZED (
        SELECT * FROM facts WHERE user_id IS NOT NULL
    ), people AS ({added_to(*PEOPLE, summed("of_people", PEOPLE[1]))}
    ), everybody AS ({added_to(*EVERYBODY, summed("facts", KEYS))})
    SELECT count(*) FROM gone
"""
"""(`most`) → how many deltas were folded."""

_EMPTY = " AND ".join([*(f"{name} = 0" for name in SUMS), *(f"{name} = '{{}}'" for name in HISTOGRAMS)])
TAKE_OUT_EMPTY = tuple(
    f"DELETE FROM chat.{table} WHERE {_EMPTY}" for table in ("analytics_days", "analytics_user_days")
)
"""What counts no row any more has sums of nothing, once all its deltas are folded: half of them may come first. To be
run by whoever holds the lock.
"""

FORGET = (
    "UPDATE chat.analytics_deltas SET user_id = NULL WHERE user_id = :user_id",
    "DELETE FROM chat.analytics_user_days WHERE user_id = :user_id",
)
"""What is known of one person. In the days of everybody nobody is named."""


# ---- reading

_COLUMNS = f"{', '.join(KEYS)}, {', '.join(_MEASURES)}"
_IN_RANGE = "day BETWEEN $1 AND $2"


def _facts(table: str, columns: str, condition: str, *, people: bool) -> str:
    return f"""
        SELECT {columns} FROM chat.{table} WHERE {condition}
        UNION ALL
        SELECT {columns} FROM ({from_deltas("chat.analytics_deltas", condition, people=people)}) unfolded
    """


# A day is shown as a whole; the days of a model or a tool are summed.
_BY_DAY = ("day", "subject", "name", "outcome")
_BY_NAME = ("subject", "provider", "name", "outcome")
_BY_USER = ("user_id", "subject", "name", "outcome")
_PLAIN_NAME = "CASE WHEN subject IN ('session', 'message') THEN name ELSE '' END AS name"
"""Where models and tools are not told apart."""


def _without_names(rows: str) -> str:
    return f"""
        SELECT day, user_id, subject, {_PLAIN_NAME}, outcome, {", ".join(_MEASURES)} FROM ({rows}) named
    """


_OF_ALL = _facts("analytics_days", f"NULL::uuid AS user_id, {_COLUMNS}", _IN_RANGE, people=False)
_OF_ONE = _facts("analytics_user_days", f"user_id, {_COLUMNS}", f"user_id = $3 AND {_IN_RANGE}", people=True)

MINE_BY_DAY = f"""
    WITH facts AS MATERIALIZED ({_without_names(_OF_ONE)})
    SELECT day, subject, '' AS provider, name, outcome, {", ".join(_MEASURES)} FROM ({summed("facts", _BY_DAY)}) summed
"""
"""($1 first day, $2 last day, $3 person) → one row for each day, subject, role or status, and outcome."""

MINE_BY_NAME = f"""
    WITH facts AS MATERIALIZED ({_OF_ONE})
    SELECT NULL::date AS day, {", ".join(_BY_NAME)}, {", ".join(_MEASURES)} FROM ({summed("facts", _BY_NAME)}) summed
"""
"""The same for all days together, with models and tools told apart."""

# People who sent something that is still there.
_ACTIVE = """
    SELECT day, user_id FROM (
        SELECT day, user_id, number FROM chat.analytics_user_days
        WHERE day BETWEEN $1 AND $2 AND subject = 'message'
        UNION ALL
        SELECT day, user_id, number FROM chat.analytics_deltas
        WHERE day BETWEEN $1 AND $2 AND subject = 'message' AND user_id IS NOT NULL
    ) sent
    GROUP BY day, user_id HAVING sum(number) > 0
"""
_NOTHING = """'', '', '', {number}, 0, 0, 0, 0, '{{}}'::jsonb, '{{}}'::jsonb"""
_ACTIVE_BY_DAY = f"""
    SELECT day, 'active', {_NOTHING.format(number="count(*)")} FROM active GROUP BY day
    UNION ALL
    SELECT NULL::date, 'active', {_NOTHING.format(number="count(DISTINCT user_id)")} FROM active
"""

ALL_BY_DAY = f"""
    WITH active AS MATERIALIZED ({_ACTIVE}), facts AS MATERIALIZED ({_without_names(_OF_ALL)})
    SELECT day, subject, '' AS provider, name, outcome, {", ".join(_MEASURES)} FROM ({summed("facts", _BY_DAY)}) summed
    UNION ALL {_ACTIVE_BY_DAY}
"""
"""($1 first day, $2 last day) → as `MINE_BY_DAY`, and how many people were `active`: each day, and (no day) in all."""

ALL_BY_NAME = f"""
    WITH active AS MATERIALIZED ({_ACTIVE}), facts AS MATERIALIZED ({_OF_ALL})
    SELECT NULL::date AS day, {", ".join(_BY_NAME)}, {", ".join(_MEASURES)} FROM ({summed("facts", _BY_NAME)}) summed
    UNION ALL {_ACTIVE_BY_DAY}
"""

_NAMED = f"{_IN_RANGE} AND user_id IS NOT NULL"
_OF_TOP = _facts(
    "analytics_user_days",
    f"user_id, {_COLUMNS}",
    f"{_IN_RANGE} AND user_id = ANY (ARRAY(SELECT user_id FROM top))",
    people=True,
)

BY_USER = f"""
    WITH top AS MATERIALIZED (
        SELECT user_id FROM (
            SELECT user_id, total_tokens, number FROM chat.analytics_user_days WHERE {_NAMED}
            UNION ALL SELECT user_id, total_tokens, number FROM chat.analytics_deltas WHERE {_NAMED}
        ) used
        GROUP BY user_id ORDER BY sum(total_tokens) DESC, sum(number) DESC, user_id LIMIT $3
    ), facts AS MATERIALIZED ({_without_names(_OF_TOP)})
    SELECT user_id, u.username, subject, '' AS provider, name, outcome, {", ".join(_MEASURES)}
    FROM ({summed("facts", _BY_USER)}) summed LEFT JOIN chat.users u ON u.id = summed.user_id
"""
"""($1 first day, $2 last day, $3 people) → the same for those who used the most tokens."""


# ---- everything there is

_STANDING = f"""
    SELECT 'user' AS subject, '' AS provider, '' AS name, '' AS outcome, count(*) AS number FROM chat.users
    UNION ALL SELECT 'bot', '', '', '', count(*) FROM chat.bots WHERE deleted_at IS NULL
    UNION ALL SELECT 'document', '', '', '', count(*) FROM chat.documents WHERE deleted_at IS NULL
    UNION ALL SELECT 'run', '', '', 'queued', count(*) FROM chat.runs WHERE status = 'queued'
    UNION ALL
    SELECT 'run', '', '', status, count(*) FROM chat.runs WHERE status IN ('running', 'awaiting_approval')
    GROUP BY status
    UNION ALL
    SELECT 'active', '', period, '', count(DISTINCT user_id)
    FROM ({_ACTIVE}) active, (VALUES ('day', 0), ('week', 6), ('month', 29)) AS periods (period, days)
    WHERE day >= $2 - days GROUP BY period
"""

EVERYTHING = f"""
    WITH facts AS MATERIALIZED ({_facts("analytics_days", _COLUMNS, "true", people=False)})
    SELECT NULL::date AS day, {", ".join(_BY_NAME)}, {", ".join(_MEASURES)} FROM ({summed("facts", _BY_NAME)}) summed
    UNION ALL
    SELECT NULL, subject, provider, name, outcome, number, 0, 0, 0, 0, '{{}}', '{{}}' FROM ({_STANDING}) standing
"""
"""($1 the day 29 days ago, $2 today) → sums of all days, what is there now, and who was active in up to 30 days."""
