"""The statements of the tool log: one each, so each is one transaction and one trip.

As those of runs, they take the session's row first and everything below it after, and ask again in the WHERE of the
write what must hold at that moment: a statement that waited reads the rest as it was when it began.
"""

from __future__ import annotations

from chat_api.sessions.statements import NOBODY_LEFT
from chat_api.tools.documents import TOOL_COLUMNS

_DOCUMENT = f"(SELECT row_to_json(d) FROM (SELECT {TOOL_COLUMNS}) d)"

# Whose question the run answers, or whose session it is.
_MAY_DECIDE = """(
    o.owner_id = $2 OR EXISTS (
        SELECT 1 FROM chat.runs r
        JOIN chat.messages m ON m.session_id = r.session_id AND m.id = r.trigger_message_id
        WHERE r.session_id = t.session_id AND r.id = t.run_id AND m.sender_id = $2
    )
)"""
_SEEN = """
    FROM chat.tool_executions t
    JOIN chat.sessions o ON o.id = t.session_id
    JOIN chat.participants p ON p.session_id = t.session_id AND p.user_id = $2
    WHERE t.id = $1
"""

EXECUTION = f"SELECT {_DOCUMENT} {_SEEN}"
"""($1 execution, $2 caller) → it as JSON; no row when the caller does not take part in its session."""

WAITING = f"""
    SELECT {_MAY_DECIDE} AS may_decide, t.status, t.parameters, t.arguments, t.redacted_arguments,
        t.decided_by IS NULL AND t.status IN ('pending_approval', 'rejected')
            AND coalesce(t.finished_at, clock_timestamp()) >= t.expires_at AS expired
    {_SEEN}
"""
"""($1 execution, $2 caller) → whether the caller may decide on it, and what there is to decide.

`expired` also of one that was rejected because nobody decided in time. No row when the caller does not take part.
"""

DECIDE = f"""
    WITH seen AS (
        SELECT t.session_id, t.id {_SEEN} AND {_MAY_DECIDE}
    ), s AS (
        SELECT s.id FROM chat.sessions s JOIN seen ON seen.session_id = s.id
        WHERE s.{NOBODY_LEFT} FOR UPDATE OF s
    ), turn AS (
        SELECT s.id, clock_timestamp() AS began FROM s
    ), t AS (
        UPDATE chat.tool_executions t SET
            status = $3, decided_by = $2, decided_at = turn.began, reason = $5,
            arguments = coalesce($4::jsonb, t.arguments),
            model_arguments = CASE WHEN $4::jsonb <> t.arguments THEN t.arguments END,
            finished_at = CASE WHEN $3 = 'rejected' THEN turn.began END
        FROM turn, seen
        WHERE t.session_id = turn.id AND t.id = seen.id
          AND t.status = 'pending_approval' AND t.expires_at > turn.began
        RETURNING t.*
    ), r AS (
        UPDATE chat.runs r SET
            pending_calls = r.pending_calls - 1,
            status = CASE WHEN r.status = 'awaiting_approval' AND r.pending_calls = 1 THEN 'queued' ELSE r.status END
        FROM t WHERE r.session_id = t.session_id AND r.id = t.run_id
        RETURNING r.status = 'queued' AND r.pending_calls = 0 AS resumed
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 1
        FROM t WHERE sessions.id = t.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.last_event_seq, 'tool.' || t.status, t.run_id, t.id FROM numbered n, t
    )
    SELECT t.session_id, t.run_id, {_DOCUMENT} AS document, n.last_event_seq AS event_seq, r.resumed
    FROM t, r, numbered n
"""
"""($1 execution, $2 caller, $3 `approved` or `rejected`, $4 arguments, null to keep the model's, $5 reason)
→ the execution, and whether its run has nothing to wait for any more; no row when refused: `WAITING` tells why.

Of several who decide at once, the session's row lets one through after the other, and the first has changed the
status. The run counts what it waits for in its own row, so of two that decide on its last two calls one finds a 1.
The time is taken in a CTE that reads the locked row: in the WHERE it could be the time before the wait.
"""

EXPIRED_REASON = "Nobody decided in time."

EXPIRE = f"""
    WITH due AS (
        SELECT t.session_id FROM chat.tool_executions t
        JOIN chat.runs r ON r.session_id = t.session_id AND r.id = t.run_id
        WHERE t.status = 'pending_approval' AND t.expires_at <= now() AND r.status <> 'running'
        GROUP BY t.session_id ORDER BY min(t.expires_at) LIMIT $1
    ), s AS (
        SELECT s.id FROM chat.sessions s JOIN due ON due.session_id = s.id FOR UPDATE OF s SKIP LOCKED
    ), late AS (
        SELECT DISTINCT t.session_id, t.run_id FROM s JOIN chat.tool_executions t ON t.session_id = s.id
        WHERE t.status = 'pending_approval' AND t.expires_at <= now()
    ), free AS (
        SELECT r.session_id, r.id FROM late JOIN chat.runs r ON r.session_id = late.session_id AND r.id = late.run_id
        WHERE r.status <> 'running' FOR UPDATE OF r SKIP LOCKED
    ), t AS (
        UPDATE chat.tool_executions t SET
            status = 'rejected', reason = '{EXPIRED_REASON}', finished_at = clock_timestamp()
        FROM free WHERE t.session_id = free.session_id AND t.run_id = free.id AND t.status = 'pending_approval'
        RETURNING t.*
    ), r AS (
        UPDATE chat.runs r SET
            pending_calls = 0, expired_at = clock_timestamp(),
            status = CASE WHEN r.status = 'awaiting_approval' THEN 'queued' ELSE r.status END
        FROM (SELECT DISTINCT t.session_id, t.run_id FROM t) ended
        WHERE r.session_id = ended.session_id AND r.id = ended.run_id
    ), placed AS (
        SELECT t.session_id, t.run_id, t.id,
            row_number() OVER (PARTITION BY t.session_id ORDER BY t.run_id, t.round, t.position) AS place,
            count(*) OVER (PARTITION BY t.session_id) AS events
        FROM t
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + ended.events
        FROM (SELECT DISTINCT p.session_id, p.events FROM placed p) ended WHERE sessions.id = ended.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.last_event_seq - p.events + p.place, 'tool.rejected', p.run_id, p.id
        FROM numbered n JOIN placed p ON p.session_id = n.id
    )
    SELECT n.id AS session_id, n.last_event_seq AS event_seq FROM numbered n
"""
"""($1 sessions) → the sessions in which calls waited too long, each with the number of its last event. All calls of
such a run that wait are rejected, and the run goes on to say so and end. One that is answered now is left until it
waits: it would go on with something else, as if nothing had been late.

It goes through many sessions at once, so it waits for no session and for no run: what somebody else has locked is late
still when it comes by again.
"""

PAGE = f"""
    WITH found AS (
        SELECT t.* FROM chat.tool_executions t
        WHERE t.session_id = $1 AND t.id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
          AND ($4::text IS NULL OR t.status = $4) AND ($5::uuid IS NULL OR t.run_id = $5)
        ORDER BY t.id LIMIT $6 + 1
    ), page AS (
        SELECT * FROM found ORDER BY id LIMIT $6
    )
    SELECT
        coalesce((SELECT json_agg(d ORDER BY d.id) FROM (SELECT {TOOL_COLUMNS} FROM page t) d), '[]'::json) AS items,
        CASE WHEN (SELECT count(*) FROM found) > $6 THEN (SELECT id FROM page ORDER BY id DESC LIMIT 1) END AS last_id
    FROM chat.participants p WHERE p.session_id = $1 AND p.user_id = $2
"""
"""($1 session, $2 caller, $3 after this id, $4 status, $5 run, $6 limit) → the first so many, and the id of the last of
them where there are more. No row when the caller does not take part."""

HAS_DOCUMENTS = """
    SELECT EXISTS (SELECT 1 FROM chat.documents d WHERE d.bot_id = $1 AND d.deleted_at IS NULL) AS has_documents
"""
"""($1 bot)"""
