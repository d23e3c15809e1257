"""What is idle, and what is kept no longer: walks over the sessions, a batch in each statement.

By id and without an index on the time of the last message: that changes with every message, and an index on it would
cost each of them more than a walk costs in a day. Sessions in which a run is under way, or waits, are left alone.
"""

from __future__ import annotations

_BATCH = "SELECT id FROM chat.sessions WHERE id > :after ORDER BY id LIMIT :limit"

_NO_RUN = """NOT EXISTS (
    SELECT FROM chat.runs r WHERE r.session_id = s.id AND r.status IN ('queued', 'running', 'awaiting_approval')
)"""

_IDLE = f"""
    SELECT s.id FROM chat.sessions s JOIN batch ON batch.id = s.id
    WHERE s.status = 'active' AND s.last_activity_at < :idle_before AND {_NO_RUN}
"""

_EXPIRED = f"""
    SELECT s.id FROM chat.sessions s
    JOIN batch ON batch.id = s.id
    JOIN chat.users u ON u.id = s.owner_id
    JOIN unnest(CAST(:plans AS text[]), CAST(:cutoffs AS timestamptz[])) AS p (plan, cutoff)
        ON p.plan = CASE WHEN u.plan = ANY(CAST(:known AS text[])) THEN u.plan ELSE :default_plan END
    WHERE s.last_activity_at < p.cutoff AND {_NO_RUN}
"""

_POSITION = """
    (SELECT count(*) FROM batch) AS looked_at,
    (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last
"""


def _counted(found: str) -> str:
    return f"""
        WITH batch AS ({_BATCH}), found AS ({found})
        SELECT {_POSITION}, (SELECT coalesce(array_agg(id), '{{}}') FROM found) AS sessions,
            CAST('{{}}' AS bigint[]) AS event_seqs
    """


COUNT_IDLE = _counted(_IDLE)
COUNT_EXPIRED = _counted(_EXPIRED)

ARCHIVE_IDLE = f"""
    WITH batch AS ({_BATCH}), found AS ({_IDLE} ORDER BY s.id FOR UPDATE OF s SKIP LOCKED), archived AS (
        UPDATE chat.sessions s SET status = 'archived', last_event_seq = s.last_event_seq + 1, updated_at = now()
        FROM found WHERE s.id = found.id RETURNING s.id, s.last_event_seq
    ), told AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, data)
        SELECT id, last_event_seq, 'session.updated', CAST(:data AS jsonb) FROM archived
    )
    SELECT {_POSITION}, coalesce(array_agg(id), '{{}}') AS sessions,
        coalesce(array_agg(last_event_seq), '{{}}') AS event_seqs
    FROM archived
"""
"""Who waits for a session's row changes it now, so it is not idle: it is passed over."""

REMOVE_EXPIRED = f"""
    WITH batch AS ({_BATCH}), found AS ({_EXPIRED} ORDER BY s.id FOR UPDATE OF s SKIP LOCKED), removed AS (
        DELETE FROM chat.sessions s USING found WHERE s.id = found.id RETURNING s.id
    )
    SELECT {_POSITION}, coalesce(array_agg(id), '{{}}') AS sessions, CAST('{{}}' AS bigint[]) AS event_seqs FROM removed
"""
