"""The statements by which a run calls tools. What is going to happen is stored before it does.

As in `statements.py`, each is one transaction: the session's row first, then the run's, then its executions. Whoever
decides on a call changes the run's row too, so a statement that waited for that row sees `pending_calls` as it is now.
"""

from __future__ import annotations

from chat_api.messages.documents import MESSAGE_COLUMNS
from chat_api.runs.documents import RUN_COLUMNS
from chat_api.tools.documents import TOOL_COLUMNS

_DOCUMENT = f"(SELECT row_to_json(d) FROM (SELECT {TOOL_COLUMNS}) d)"
_RAW = """
    t.id, t.round, t.position, t.call_id, t.said_characters, t.tool_name, t.repeatable, t.signature, t.arguments,
    t.model_arguments, t.status, t.result, t.passages, t.error, t.reason
"""
"""What the agent is told of an execution `t`: not what people are shown."""

_OURS = "r.id = $2 AND r.attempt = $3 AND r.lease_owner = $4 AND r.status = 'running'"

RECORD_ROUND = f"""
    WITH s AS (
        SELECT id, approval_mode FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), ours AS (
        SELECT r.session_id, r.id, r.attempt, r.reply_message_id, r.requested_by
        FROM chat.runs r JOIN s ON r.session_id = s.id
        WHERE {_OURS} FOR UPDATE OF r
    ), calls AS (
        SELECT c.*, CASE
            WHEN c.error IS NOT NULL THEN 'failed'
            WHEN s.approval_mode = 'always' OR (s.approval_mode = 'risky' AND c.risk = 'risky') THEN 'pending_approval'
            ELSE 'running'
        END AS status
        FROM s, jsonb_to_recordset($5::jsonb) AS c (
            id uuid, round integer, position integer, call_id text, tool_name text, source text, risk text,
            repeatable boolean, parameters jsonb, signature text, arguments jsonb, redacted_arguments text[],
            redact_result boolean, error jsonb
        )
    ), t AS (
        INSERT INTO chat.tool_executions (
            session_id, id, run_id, message_id, requested_by, round, position, call_id, said_characters, tool_name,
            source, risk, repeatable, parameters, signature, arguments, redacted_arguments, redact_result, status,
            error, attempts, expires_at, created_at, started_at, finished_at
        )
        SELECT o.session_id, c.id, o.id, o.reply_message_id, o.requested_by, c.round, c.position, c.call_id, $6,
            c.tool_name, c.source, c.risk, c.repeatable, c.parameters, c.signature, c.arguments, c.redacted_arguments,
            c.redact_result, c.status, c.error, (c.status = 'running')::int,
            CASE WHEN c.status = 'pending_approval' THEN clock_timestamp() + make_interval(secs => $9) END,
            clock_timestamp(),
            CASE WHEN c.status = 'running' THEN clock_timestamp() END,
            CASE WHEN c.status = 'failed' THEN clock_timestamp() END
        FROM calls c, ours o
        RETURNING *
    ), r AS (
        UPDATE chat.runs r SET
            pending_calls = (SELECT count(*) FROM t WHERE status = 'pending_approval'), progress = r.attempt,
            said_characters = $6, stream_position = $8
        FROM ours o WHERE r.session_id = o.session_id AND r.id = o.id
    ), m AS (
        UPDATE chat.messages m SET content = $7
        FROM ours o WHERE m.session_id = o.session_id AND m.id = o.reply_message_id
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 2 * (SELECT count(*) FROM t)
        FROM ours o WHERE sessions.id = o.session_id
        RETURNING sessions.id, sessions.last_event_seq - 2 * (SELECT count(*) FROM t) AS first, last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.first + 2 * t.position + 1, 'tool.requested', t.run_id, t.id FROM numbered n, t
        UNION ALL
        SELECT n.id, n.first + 2 * t.position + 2, CASE t.status
            WHEN 'pending_approval' THEN 'tool.approval_required' WHEN 'running' THEN 'tool.started'
            ELSE 'tool.failed' END, t.run_id, t.id
        FROM numbered n, t
    )
    SELECT {_RAW}, {_DOCUMENT} AS document, n.last_event_seq AS event_seq FROM t, numbered n ORDER BY t.position
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 the calls as JSON, $6 characters of the reply, $7 the reply,
$8 number of the stream's last event, with those of the calls, $9 seconds until nobody need decide any more)
→ the calls as stored, in their order; no row when the lease was lost.

The session's mode is read with its row locked: a mode that was changed while the model spoke holds already.
"""

RECORDED = f"""
    WITH s AS (
        SELECT id, last_event_seq FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), ours AS (
        SELECT r.session_id, r.id FROM chat.runs r JOIN s ON r.session_id = s.id WHERE {_OURS} FOR UPDATE OF r
    )
    SELECT {_RAW}, {_DOCUMENT} AS document, s.last_event_seq AS event_seq
    FROM s, ours o JOIN chat.tool_executions t ON t.session_id = o.session_id AND t.run_id = o.id
    WHERE t.round = $5 ORDER BY t.position
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 round) → its calls, as `RECORD_ROUND` gives them."""

SETTLE_ROUND = f"""
    WITH s AS (
        SELECT id FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), ours AS (
        SELECT r.session_id, r.id FROM chat.runs r JOIN s ON r.session_id = s.id WHERE {_OURS} FOR UPDATE OF r
    ), t AS (
        UPDATE chat.tool_executions t SET
            status = CASE WHEN t.status = 'approved' OR (t.repeatable AND t.attempts < $6) THEN 'running'
                ELSE 'failed' END,
            attempts = t.attempts + (t.status = 'approved' OR (t.repeatable AND t.attempts < $6))::int,
            started_at = coalesce(t.started_at, clock_timestamp()),
            error = CASE WHEN t.status = 'running' AND NOT (t.repeatable AND t.attempts < $6) THEN $7::jsonb END,
            finished_at = CASE WHEN t.status = 'running' AND NOT (t.repeatable AND t.attempts < $6)
                THEN clock_timestamp() END
        FROM ours o
        WHERE t.session_id = o.session_id AND t.run_id = o.id
          AND (t.status = 'approved' OR ($5::bool AND t.status = 'running'))
        RETURNING t.*
    ), placed AS (
        SELECT t.*, row_number() OVER (ORDER BY t.position) AS place FROM t
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + (SELECT count(*) FROM t)
        FROM ours o WHERE sessions.id = o.session_id
        RETURNING sessions.id, sessions.last_event_seq - (SELECT count(*) FROM t) AS first, last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.first + p.place, CASE p.status WHEN 'running' THEN 'tool.started' ELSE 'tool.failed' END,
            p.run_id, p.id
        FROM numbered n, placed p
    ), everything AS (
        SELECT t.*, true AS changed FROM t
        UNION ALL
        SELECT t.*, false FROM chat.tool_executions t JOIN ours o ON t.session_id = o.session_id AND t.run_id = o.id
        WHERE t.id NOT IN (SELECT id FROM t)
    )
    SELECT {_RAW}, CASE WHEN t.changed THEN {_DOCUMENT} END AS document, n.last_event_seq AS event_seq
    FROM everything t, numbered n ORDER BY t.round, t.position
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 whether what was running is lost, $6 attempts of a call that may
be repeated, $7 the problem of one whose end nobody knows) → all calls of the run, in order, with a `document` where one
changed; no row when the lease was lost, or there are none.

What was approved is going to run now. What was running in a process that died runs again if it may; else it failed.
"""

STORE_RESULT = f"""
    WITH s AS (
        SELECT id, last_event_seq FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), ours AS (
        SELECT r.session_id, r.id FROM chat.runs r JOIN s ON r.session_id = s.id WHERE {_OURS} FOR UPDATE OF r
    ), t AS (
        UPDATE chat.tool_executions t SET
            status = $6, result = $7, passages = $8::jsonb, error = $9::jsonb, attempts = t.attempts - 1 + $10,
            duration_ms = $11, finished_at = clock_timestamp()
        FROM ours o
        WHERE t.session_id = o.session_id AND t.run_id = o.id AND t.call_id = $5 AND t.status = 'running'
        RETURNING t.*
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 1
        FROM t WHERE sessions.id = t.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.last_event_seq, CASE t.status WHEN 'succeeded' THEN 'tool.completed' ELSE 'tool.failed' END,
            t.run_id, t.id
        FROM numbered n, t
    ), told AS (
        SELECT t.*, n.last_event_seq FROM t, numbered n
        UNION ALL
        SELECT t.*, s.last_event_seq FROM s, ours o
        JOIN chat.tool_executions t ON t.session_id = o.session_id AND t.run_id = o.id
        WHERE t.call_id = $5 AND t.status = $6 AND t.duration_ms = $11
    )
    SELECT {_RAW}, {_DOCUMENT} AS document, t.last_event_seq AS event_seq FROM told t
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 call, $6 status, $7 result, $8 passages, $9 problem, $10 attempts
by the agent, $11 milliseconds) → the call; no row when it was not running, or the lease was lost.

The same result again changes nothing and gives the same row: the answer to a commit may be lost, and to give the run up
for that would break off the tools that run beside it.
"""

PAUSE = f"""
    WITH s AS (
        SELECT id FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), r AS (
        UPDATE chat.runs r SET
            status = 'awaiting_approval', usage = $5::jsonb, stream_length = $6, stream_position = $6,
            lease_owner = NULL, lease_expires_at = NULL, provider = $8, model = $9, latency_ms = $10,
            time_to_first_token_ms = $11, cost = $12
        FROM s
        WHERE r.session_id = s.id AND {_OURS} AND r.pending_calls > 0 AND r.cancel_requested_at IS NULL
        RETURNING r.*
    ), m AS (
        UPDATE chat.messages m SET
            content = $7, status = 'awaiting_approval', provider = $8, model = $9, latency_ms = $10,
            time_to_first_token_ms = $11
        FROM r WHERE m.session_id = r.session_id AND m.id = r.reply_message_id
        RETURNING m.*
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 2, last_activity_at = now()
        FROM r WHERE sessions.id = r.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, message_id, run_id)
        SELECT n.id, n.last_event_seq - 1, 'message.updated', r.reply_message_id, r.id FROM numbered n, r
        UNION ALL
        SELECT n.id, n.last_event_seq, 'run.awaiting_approval', NULL, r.id FROM numbered n, r
    )
    SELECT (SELECT row_to_json(d) FROM (SELECT {RUN_COLUMNS} FROM r) d) AS run,
        (SELECT row_to_json(d) FROM (
            SELECT {MESSAGE_COLUMNS} FROM m LEFT JOIN chat.users u ON u.id = m.sender_id
        ) d) AS reply, n.last_event_seq AS event_seq
    FROM numbered n
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 usage, $6 stream length, $7 content, $8 provider, $9 model,
$10 latency ms, $11 time to first token ms, $12 cost) → the run and its reply, waiting; no row when nothing waits any
more, somebody cancelled the run, or the lease was lost."""

CLOSE_CALLS = """
    closed AS (
        UPDATE chat.tool_executions t SET
            status = CASE t.status WHEN 'running' THEN 'failed'
                WHEN 'pending_approval' THEN 'rejected' WHEN 'approved' THEN 'rejected' ELSE t.status END,
            error = CASE WHEN t.status = 'running' THEN $19::jsonb ELSE t.error END,
            reason = CASE WHEN t.status IN ('pending_approval', 'approved') THEN 'The run ended before it was run.'
                ELSE t.reason END,
            finished_at = coalesce(t.finished_at, r.finished_at),
            arguments = t.arguments || coalesce((
                SELECT jsonb_object_agg(k, '[redacted]') FROM unnest(t.redacted_arguments) k WHERE t.arguments ? k
            ), '{}'),
            model_arguments = t.model_arguments || coalesce((
                SELECT jsonb_object_agg(k, '[redacted]') FROM unnest(t.redacted_arguments) k
                WHERE t.model_arguments ? k
            ), '{}'),
            result = CASE WHEN t.redact_result AND t.result IS NOT NULL THEN '[redacted]' ELSE t.result END,
            passages = '[]'
        FROM r
        WHERE t.session_id = r.session_id AND t.run_id = r.id
        RETURNING t.*
    ), ended AS (
        SELECT c.*, row_number() OVER (ORDER BY c.round, c.position) AS place
        FROM closed c JOIN r ON c.finished_at = r.finished_at
    ),
"""
"""Part of ending a run `r` that called tools: closes what is open, forgets what no log may keep.

What it closed it knows by the time that it gave it: the rows as they were before may be older than the wait for the
session, and somebody may have decided meanwhile.
"""
