"""The statements that sending and answering stand on: one each, so each is one transaction and one trip.

Whoever writes to a session takes the session row first and everything below it after, so no two of these
can wait for each other. A statement that waited still reads the rest as it was when it began: what must hold
at the moment of the write is asked again in the WHERE of the write. Times are `clock_timestamp()`, taken
after the wait, so that they rise with `seq`.
"""

from __future__ import annotations

from chat_api.messages.documents import MESSAGE_COLUMNS
from chat_api.plans.statements import COUNT_MESSAGE, USED_TODAY
from chat_api.runs.documents import RUN_COLUMNS
from chat_api.runs.history import EARLIER
from chat_api.runs.session_bot import BOT_COLUMNS, BOT_JOIN, LIVE_CITATIONS, MODEL, PROVIDER
from chat_api.runs.tool_statements import CLOSE_CALLS
from chat_api.sessions.statements import NOBODY_LEFT


def _message(source: str) -> str:
    """`source` is a table or CTE of messages that yields one row."""
    return f"""(
        SELECT row_to_json(d) FROM (
            SELECT {MESSAGE_COLUMNS} FROM {source} m LEFT JOIN chat.users u ON u.id = m.sender_id
        ) d
    )"""


def _message_by_id(session: str, message: str) -> str:
    # The names must not be of `m`, `u` or `d`: those are taken inside.
    return f"""(
        SELECT row_to_json(d) FROM (
            SELECT {MESSAGE_COLUMNS} FROM chat.messages m LEFT JOIN chat.users u ON u.id = m.sender_id
            WHERE m.session_id = {session} AND m.id = {message}
        ) d
    )"""


def _run(source: str) -> str:
    return f"(SELECT row_to_json(d) FROM (SELECT {RUN_COLUMNS} FROM {source} r) d)"


_POLICY = "coalesce(reply_policy, CASE WHEN participant_count > 1 THEN 'mentioned' ELSE 'always' END)"
_REPLY_DUE = f"({_POLICY} = 'always' OR ({_POLICY} = 'mentioned' AND $8::bool))"
# A branch for each partial index: asked together, they would be looked for among all runs that the session ever had.
_BUSY = """busy AS MATERIALIZED (
        SELECT 1 FROM chat.runs o WHERE o.session_id = $1 AND o.status IN ('running', 'awaiting_approval')
        UNION ALL
        SELECT 1 FROM chat.runs o WHERE o.session_id = $1 AND o.status = 'queued')"""
# CASE, because AND may look into the runs first, also where no reply is due.
_STARTS = f"CASE WHEN $13::bool AND {_REPLY_DUE} THEN NOT EXISTS (SELECT 1 FROM busy) ELSE false END"

# The sender's own files, in the order in which they are named.
_FILES = """files AS (
        SELECT f.id, f.name, f.content_type, f.size_bytes, n.position
        FROM unnest($18::uuid[]) WITH ORDINALITY AS n (id, position)
        JOIN chat.attachments f ON f.id = n.id AND f.owner_id = $2
    ),"""
_FILES_SHOWN = """(
            SELECT jsonb_agg(jsonb_build_object(
                'id', f.id, 'name', f.name, 'content_type', f.content_type, 'size_bytes', f.size_bytes
            ) ORDER BY f.position) FROM files f
        )"""
_NAMED = """named AS (
        INSERT INTO chat.message_attachments (session_id, message_id, attachment_id)
        SELECT s.id, $3, f.id FROM s, files f
    ),"""


_FIRST_START = "NULL::bigint AS stream_position, 0::bigint AS said_characters, false AS expired, NULL::jsonb AS usage"
"""Where a run goes on that has not begun."""

_UNCHANGED_SINCE = "s.last_event_seq - 3 = (SELECT o.last_event_seq FROM chat.sessions o WHERE o.id = $1)"
"""Whether nothing happened in the session between the statement's snapshot and its lock on the session.

Every change of what was said is an event. The three are the statement's own, where a run starts.
"""


def _send(*, with_files: bool) -> str:
    """Without files the statement knows nothing of them: most messages have none, and it is what is sent most."""
    files = files_found = named = files_column = files_value = ""
    if with_files:
        files = _FILES
        files_found = "AND (SELECT count(*) FROM files) = cardinality($18::uuid[])"
        named = _NAMED
        files_column, files_value = ", attachments", f", {_FILES_SHOWN}"
    return f"""
    WITH {files} {USED_TODAY}, {_BUSY}, s AS (
        UPDATE chat.sessions s SET
            last_seq = last_seq + CASE WHEN {_STARTS} THEN 2 ELSE 1 END,
            last_event_seq = last_event_seq + CASE WHEN {_STARTS} THEN 3 ELSE 1 END,
            message_count = message_count + CASE WHEN {_STARTS} THEN 2 ELSE 1 END,
            last_activity_at = now()
        FROM used
        WHERE id = $1 AND status = 'active'
          AND ($15::bigint IS NULL OR used_messages < $15)
          AND ($16::bigint IS NULL OR used_tokens < $16 OR NOT {_REPLY_DUE})
          AND EXISTS (SELECT 1 FROM chat.participants p WHERE p.session_id = $1 AND p.user_id = $2)
          AND {NOBODY_LEFT}
          {files_found}
        RETURNING *, {_REPLY_DUE} AS reply_due, {_STARTS} AS starts
    ), m AS (
        INSERT INTO chat.messages
            (session_id, seq, id, role, sender_id, content, client_id, request_hash, metadata, run_id, created_at
            {files_column})
        SELECT id, last_seq - starts::int, $3, 'user', $2, $4, $5, $6, $7::jsonb,
            CASE WHEN reply_due THEN $9::uuid END, clock_timestamp() {files_value}
        FROM s
        RETURNING *
    ), {COUNT_MESSAGE}, {named} r AS (
        INSERT INTO chat.runs (
            session_id, id, trigger_message_id, requested_by, reply_message_id, status, attempt, lease_owner,
            lease_expires_at, started_at, include_related_context
        )
        SELECT id, $9, $3, $2, CASE WHEN starts THEN $12::uuid END, CASE WHEN starts THEN 'running' ELSE 'queued' END,
            starts::int, CASE WHEN starts THEN $10 END,
            CASE WHEN starts THEN clock_timestamp() + make_interval(secs => $11) END,
            CASE WHEN starts THEN clock_timestamp() END, $14::bool
        FROM s WHERE reply_due
        RETURNING *
    ), reply AS (
        INSERT INTO chat.messages (session_id, seq, id, role, content, parent_id, run_id, status, created_at)
        SELECT id, last_seq, $12, 'assistant', '', $3, $9, 'streaming', clock_timestamp() FROM s WHERE starts
        RETURNING *
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, message_id, run_id)
        SELECT id, last_event_seq - 2 * starts::int, 'message.created', $3, NULL::uuid FROM s
        UNION ALL
        SELECT id, last_event_seq - 1, 'run.started', NULL, $9 FROM s WHERE starts
        UNION ALL
        SELECT id, last_event_seq, 'message.created', $12, $9 FROM s WHERE starts
    )
    SELECT {_message("m")} AS message, {_run("r")} AS run, {_message("reply")} AS reply, starts,
        $9::uuid AS run_id, 1 AS attempt, $3::uuid AS trigger_message_id, $12::uuid AS reply_message_id,
        false AS cancelled, s.last_event_seq AS event_seq, $2::uuid AS asked_by,
        $2::uuid AS requested_by, {_FIRST_START}, {BOT_COLUMNS},
        CASE WHEN starts AND {_UNCHANGED_SINCE} THEN {EARLIER} END AS earlier,
        (SELECT u.username FROM chat.users u WHERE u.id = $2) AS sender_name, (SELECT attachments FROM m) AS attachments
    FROM s {BOT_JOIN}
    """


SEND = _send(with_files=False)
"""($1 session, $2 sender, $3 message id, $4 content, $5 client id, $6 request hash, $7 metadata,
$8 assistant mentioned, $9 run id, $10 lease owner, $11 lease seconds, $12 reply id, $13 whether we may start a run,
$14 whether the run's prompt includes a related session's messages, $15 messages and $16 tokens that the sender may use
a day: null is as many as they like, $17 messages that a model is shown)
→ `message`, `run` (null where no reply is due) and, where the run `starts` at once, all that `CLAIM` gives, and what
was said `earlier`, unless that changed while the statement waited for the session; no row when refused.

A run that need not wait is stored as ours already: a second commit, and its wait for the disk, would stand between
the person and the first word. A second message with the same client id breaks a unique index, and so does a run
that another process began while we waited for the session; either undoes the whole statement. So does the check of
`user_days`, where several messages at once are more than is left of the sender's quota.
"""

SEND_WITH_FILES = _send(with_files=True)
"""The same with $18, the ids of files in their order. No row also where one of them is not the sender's own.

A file that is removed at the same moment breaks a foreign key, and undoes the whole statement.
"""

SENT_BEFORE = f"""
    SELECT sent.id AS message_id, sent.request_hash, sent.run_id,
        {_message_by_id("sent.session_id", "sent.id")} AS message,
        (SELECT row_to_json(d) FROM (
            SELECT {RUN_COLUMNS} FROM chat.runs r WHERE r.session_id = sent.session_id AND r.id = sent.run_id
        ) d) AS run
    FROM chat.messages sent
    WHERE sent.session_id = $1 AND sent.sender_id = $2 AND sent.client_id = $3
"""

WHY_REFUSED = """
    SELECT s.status FROM chat.sessions s
    JOIN chat.participants p ON p.session_id = s.id AND p.user_id = $2
    WHERE s.id = $1
"""
"""($1 session, $2 caller) → the session's status; no row when the caller does not take part."""

REGENERATE = f"""
    WITH {USED_TODAY}, s AS (
        SELECT s.id FROM chat.sessions s
        JOIN chat.participants p ON p.session_id = s.id AND p.user_id = $2
        WHERE s.id = $1 AND s.status = 'active' AND s.{NOBODY_LEFT}
          AND ($7::bigint IS NULL OR (SELECT used_tokens FROM used) < $7) FOR UPDATE OF s
    ), t AS (
        SELECT m.* FROM s
        JOIN chat.messages asked ON asked.session_id = s.id AND asked.id = $3
        JOIN chat.messages m ON m.session_id = s.id
            AND m.id = CASE WHEN asked.role = 'assistant' THEN asked.parent_id ELSE asked.id END
        WHERE m.role = 'user' AND m.deleted_at IS NULL
    ), r AS (
        INSERT INTO chat.runs (session_id, id, trigger_message_id, requested_by, include_related_context)
        SELECT t.session_id, $4, t.id, $2, coalesce((
            SELECT o.include_related_context FROM chat.runs o WHERE o.session_id = t.session_id AND o.id = t.run_id
        ), true) FROM t
        RETURNING *
    ), k AS (
        INSERT INTO chat.idempotency_keys (user_id, key, request_hash, status, body)
        SELECT $2, $5, $6, 202, convert_to($4::uuid::text, 'UTF8') FROM r WHERE $5::text IS NOT NULL
    )
    SELECT r.trigger_message_id, {_message("t")} AS message, {_run("r")} AS run FROM s LEFT JOIN r ON true
"""
"""($1 session, $2 caller, $3 message or reply, $4 run id, $5 idempotency key, $6 request hash,
$7 tokens that the caller may use a day, or null)
→ the message that is answered again, and the run: nulls where there is no such message. No row when refused. A key
that was used breaks the statement.
"""

STORED_RUN_ID = """
    SELECT request_hash, convert_from(body, 'UTF8') AS run_id FROM chat.idempotency_keys
    WHERE user_id = $1 AND key = $2
"""
"""($1 caller, $2 idempotency key) → what the key was used for."""

CLAIM = f"""
    WITH s AS (
        SELECT * FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), waiting AS (
        SELECT r.session_id, r.id FROM s JOIN chat.runs r ON r.session_id = s.id
        WHERE r.status = 'queued' AND NOT EXISTS (
            SELECT 1 FROM chat.runs a
            WHERE a.session_id = s.id AND a.status IN ('running', 'awaiting_approval')
        )
        ORDER BY r.created_at, r.id LIMIT 1
    ), r AS (
        UPDATE chat.runs r SET
            status = 'running', attempt = attempt + 1, lease_owner = $2,
            lease_expires_at = clock_timestamp() + make_interval(secs => $3),
            started_at = coalesce(started_at, clock_timestamp()),
            reply_message_id = coalesce(reply_message_id, $4), stream_length = NULL
        FROM waiting w WHERE r.session_id = w.session_id AND r.id = w.id AND r.status = 'queued'
        RETURNING r.*
    ), fresh AS (
        SELECT * FROM r WHERE attempt = 1
    ), resumed AS (
        UPDATE chat.messages m SET status = 'streaming'
        FROM r
        WHERE m.session_id = r.session_id AND m.id = r.reply_message_id AND m.status = 'awaiting_approval'
          AND r.cancel_requested_at IS NULL AND r.expired_at IS NULL
        RETURNING m.*
    ), begun AS (
        SELECT session_id, 1 AS replies FROM fresh UNION ALL SELECT session_id, 0 FROM resumed
    ), numbered AS (
        UPDATE chat.sessions SET
            last_seq = sessions.last_seq + b.replies, last_event_seq = sessions.last_event_seq + 1 + b.replies,
            message_count = sessions.message_count + b.replies, last_activity_at = now()
        FROM begun b WHERE sessions.id = b.session_id
        RETURNING sessions.id, sessions.last_seq, sessions.last_event_seq, b.replies
    ), m AS (
        INSERT INTO chat.messages (session_id, seq, id, role, content, parent_id, run_id, status, created_at)
        SELECT n.id, n.last_seq, f.reply_message_id, 'assistant', '', f.trigger_message_id, f.id, 'streaming',
            clock_timestamp()
        FROM numbered n, fresh f
        RETURNING *
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, message_id, run_id)
        SELECT n.id, n.last_event_seq - n.replies, 'run.started', NULL::uuid, r.id FROM numbered n, r
        UNION ALL
        SELECT n.id, n.last_event_seq, 'message.created', f.reply_message_id, f.id FROM numbered n, fresh f
    )
    SELECT r.id AS run_id, r.attempt, r.trigger_message_id, r.reply_message_id,
        r.cancel_requested_at IS NOT NULL AS cancelled, (SELECT last_event_seq FROM numbered) AS event_seq,
        r.stream_position, r.said_characters, r.expired_at IS NOT NULL AS expired, r.usage,
        (
            SELECT asked.sender_id FROM chat.messages asked
            WHERE asked.session_id = r.session_id AND asked.id = r.trigger_message_id
        ) AS asked_by,
        r.requested_by, {BOT_COLUMNS},
        {_run("r")} AS run,
        coalesce(
            {_message("m")}, {_message("resumed")}, {_message_by_id("r.session_id", "r.reply_message_id")}
        ) AS reply
    FROM r, s {BOT_JOIN}
"""
"""($1 session, $2 lease owner, $3 lease seconds, $4 reply id) → the oldest waiting run, now leased; or no row.

Two processes that claim at once both may find the run: the one that waited for the session's lock still sees
the run as it was before, so the update asks for its status again, and the unique index on active runs decides
the rest.
"""

HEARTBEAT = """
    WITH ours AS (
        SELECT r.session_id, r.id, r.attempt, r.cancel_requested_at IS NOT NULL AS cancelled
        FROM unnest($5::uuid[], $6::int[]) AS answered (id, attempt)
        JOIN chat.runs r ON r.id = answered.id AND r.attempt = answered.attempt
        WHERE r.lease_owner = $1 AND r.status = 'running'
    ), free AS (
        SELECT r.session_id, r.id FROM ours JOIN chat.runs r ON r.session_id = ours.session_id AND r.id = ours.id
        WHERE r.lease_owner = $1 AND r.status = 'running' AND r.attempt = ours.attempt FOR UPDATE OF r SKIP LOCKED
    ), renewed AS (
        UPDATE chat.runs r SET lease_expires_at = now() + make_interval(secs => $2)
        FROM free WHERE r.session_id = free.session_id AND r.id = free.id
        RETURNING r.session_id, r.id, r.reply_message_id
    ), grown AS (
        SELECT m.session_id, m.seq, c.content
        FROM unnest($3::uuid[], $4::text[]) AS c (run_id, content)
        JOIN renewed ON renewed.id = c.run_id
        JOIN chat.messages m ON m.session_id = renewed.session_id AND m.id = renewed.reply_message_id
        WHERE m.status = 'streaming' FOR UPDATE OF m SKIP LOCKED
    ), said AS (
        UPDATE chat.messages m SET content = grown.content FROM grown
        WHERE m.session_id = grown.session_id AND m.seq = grown.seq
    )
    SELECT id, cancelled FROM ours
"""
"""($1 lease owner, $2 lease seconds, $3 runs that said more, $4 their texts so far, $5 runs answered now,
$6 their attempts) → the runs still held. A process that froze may hold a run under a later attempt than it answers.

It goes through many sessions at once, so it takes no session's row, and therefore waits for nobody: what somebody
else has locked (a session that is being deleted, a run that is being ended) is left as it is until the next beat.
Waiting, it could stand in a circle with them, and one long delete would let every other lease run out. A lease that
the owner does not know of (its claim was committed, but the answer lost) is left to run out.
"""


_COUNTED = "(CASE WHEN NOT $7::jsonb ? 'estimated' THEN $7::jsonb END)"
"""A message tells what its provider counted, its run what was estimated too."""


def _finish(*, with_tools: bool) -> str:
    """A run that called no tools knows nothing of them: most do not, and each ends once."""
    closing = ended = tools_used = ""
    events = "e"
    added = "2"
    if with_tools:
        closing = CLOSE_CALLS
        events = "x"
        added = "2 + (SELECT count(*) FROM ended)"
        tools_used = """, tools_used = ARRAY(
                SELECT t.tool_name FROM chat.tool_executions t
                WHERE t.session_id = r.session_id AND t.run_id = r.id AND t.started_at IS NOT NULL
                GROUP BY t.tool_name ORDER BY min(t.round), min(t.position)
            )"""
        ended = """
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id, tool_execution_id)
        SELECT n.id, n.last_event_seq - 2 - (SELECT count(*) FROM ended) + x.place,
            CASE x.status WHEN 'rejected' THEN 'tool.rejected' ELSE 'tool.failed' END, x.run_id, x.id
        FROM numbered n, ended x
    ), e AS ("""
    return f"""
    WITH s AS (
        SELECT id FROM chat.sessions WHERE id = $1 FOR UPDATE
    ), r AS (
        UPDATE chat.runs r SET
            status = $5, error = $6::jsonb, usage = $7::jsonb, finished_at = clock_timestamp(), stream_length = $8,
            lease_owner = NULL, lease_expires_at = NULL, cost = $16, provider = coalesce($11, $17),
            model = CASE WHEN $11 IS NULL THEN $18 ELSE $12 END, latency_ms = $13, time_to_first_token_ms = $14
        FROM s
        WHERE r.session_id = s.id AND r.id = $2 AND r.attempt = $3 AND r.lease_owner = $4 AND r.status = 'running'
        RETURNING r.*
    ), m AS (
        UPDATE chat.messages m SET
            content = $9, status = $10, error = $6::jsonb, provider = $11, model = $12,
            prompt_tokens = ({_COUNTED} ->> 'prompt_tokens')::bigint,
            completion_tokens = ({_COUNTED} ->> 'completion_tokens')::bigint,
            total_tokens = ({_COUNTED} ->> 'total_tokens')::bigint, cost = $16,
            latency_ms = $13, time_to_first_token_ms = $14, citations = {LIVE_CITATIONS} {tools_used}
        FROM r WHERE m.session_id = r.session_id AND m.id = r.reply_message_id
        RETURNING m.*
    ), {closing} numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + {added}, last_activity_at = now()
        FROM r WHERE sessions.id = r.session_id
        RETURNING sessions.id, sessions.last_event_seq
    ), {events} AS ({ended}
        INSERT INTO chat.session_events (session_id, event_seq, type, message_id, run_id)
        SELECT n.id, n.last_event_seq - 1, 'message.updated', r.reply_message_id, r.id FROM numbered n, r
        UNION ALL
        SELECT n.id, n.last_event_seq, 'run.' || r.status, NULL, r.id FROM numbered n, r
    )
    SELECT {_run("r")} AS run, {_message("m")} AS reply, n.last_event_seq AS event_seq FROM r, numbered n
    """


FINISH = _finish(with_tools=False)
"""($1 session, $2 run, $3 attempt, $4 lease owner, $5 status, $6 error, $7 usage, $8 stream length, $9 content,
$10 message status, $11 provider, $12 model, $13 latency ms, $14 time to first token ms, $15 citations, $16 cost,
$17 provider and $18 model that were asked, for the run of which none said who it was)
→ the run and its reply as stored; no row when the lease was lost.
"""

FINISH_WITH_TOOLS = _finish(with_tools=True)
"""The same for a run that called tools, with $19, the problem of a call that was still running: how did it end?"""

RELEASE = """
    UPDATE chat.runs SET status = 'queued', lease_owner = NULL, lease_expires_at = NULL
    WHERE session_id = $1 AND id = $2 AND attempt = $3 AND lease_owner = $4 AND status = 'running'
    RETURNING id
"""
"""($1 session, $2 run, $3 attempt, $4 lease owner): give a run that has said nothing back to the queue."""

CANCEL = f"""
    WITH found AS (
        SELECT r.session_id, r.id FROM chat.runs r
        JOIN chat.participants p ON p.session_id = r.session_id AND p.user_id = $2
        WHERE r.id = $1
    ), s AS (
        SELECT s.id FROM chat.sessions s JOIN found ON found.session_id = s.id
        WHERE s.{NOBODY_LEFT} FOR UPDATE OF s
    ), current AS (
        SELECT r.* FROM chat.runs r JOIN found ON r.session_id = found.session_id AND r.id = found.id JOIN s ON true
        FOR UPDATE OF r
    ), r AS (
        UPDATE chat.runs r SET
            cancel_requested_at = coalesce(r.cancel_requested_at, now()),
            status = CASE WHEN c.status = 'queued' AND c.attempt = 0 THEN 'cancelled'
                WHEN c.status = 'awaiting_approval' THEN 'queued' ELSE r.status END,
            finished_at = CASE WHEN c.status = 'queued' AND c.attempt = 0 THEN now() END,
            stream_length = CASE WHEN c.status = 'queued' AND c.attempt = 0 THEN 2 END
        FROM current c
        WHERE r.session_id = c.session_id AND r.id = c.id AND c.status IN ('queued', 'running', 'awaiting_approval')
        RETURNING r.*
    ), numbered AS (
        UPDATE chat.sessions SET last_event_seq = sessions.last_event_seq + 1
        FROM r WHERE sessions.id = r.session_id AND r.status = 'cancelled'
        RETURNING sessions.id, sessions.last_event_seq
    ), e AS (
        INSERT INTO chat.session_events (session_id, event_seq, type, run_id)
        SELECT n.id, n.last_event_seq, 'run.cancelled', r.id FROM numbered n, r
    )
    SELECT c.status AS was, (SELECT status FROM r) AS now, c.session_id,
        (SELECT last_event_seq FROM numbered) AS event_seq,
        coalesce({_run("r")}, {_run("current")}) AS run
    FROM current c
"""
"""($1 run, $2 caller) → the run; a waiting one is cancelled at once, a running one is marked for its holder.

A run that had started once has a reply to close, so it is marked too: whoever claims it next closes it. One that waits
for a decision waits no longer, but to be claimed.
"""

RUN_VISIBLE = f"""
    SELECT {_run("(SELECT * FROM chat.runs WHERE id = $1)")}
    FROM chat.runs x JOIN chat.participants p ON p.session_id = x.session_id AND p.user_id = $2
    WHERE x.id = $1
"""
"""($1 run, $2 caller) → the run; no row when the caller does not take part in its session."""

RUN_STATE = f"""
    SELECT x.session_id, x.trigger_message_id, x.status, coalesce(x.stream_length, 0) AS stream_length,
        {_run("(SELECT * FROM chat.runs WHERE id = $1)")} AS run,
        {_message_by_id("x.session_id", "x.trigger_message_id")} AS trigger,
        {_message_by_id("x.session_id", "x.reply_message_id")} AS reply
    FROM chat.runs x WHERE x.id = $1
"""
"""($1 run) → all that a reader of its stream may need, whatever became of the stream itself."""

RUN_STATUS = "SELECT status FROM chat.runs WHERE id = $1"

TAKE_OVER = f"""
    UPDATE chat.runs r SET lease_owner = $1, lease_expires_at = now() + make_interval(secs => $2)
    FROM (
        SELECT session_id, id FROM chat.runs
        WHERE status = 'running' AND lease_expires_at < now() AND id <> ALL($3::uuid[])
        ORDER BY lease_expires_at LIMIT 100 FOR UPDATE SKIP LOCKED
    ) o
    WHERE r.session_id = o.session_id AND r.id = o.id
    RETURNING r.session_id, r.id, r.attempt, r.trigger_message_id, r.cancel_requested_at IS NOT NULL AS cancelled,
        r.progress, r.requested_by,
        r.stream_position, r.said_characters, r.usage,
        coalesce(r.provider, (SELECT {PROVIDER} FROM chat.sessions s {BOT_JOIN} WHERE s.id = r.session_id)) AS provider,
        CASE WHEN r.provider IS NULL THEN (SELECT {MODEL} FROM chat.sessions s {BOT_JOIN} WHERE s.id = r.session_id)
            ELSE r.model END AS model,
        (SELECT m.content FROM chat.messages m WHERE m.session_id = r.session_id AND m.id = r.reply_message_id)
            AS content
"""
"""($1 lease owner, $2 lease seconds, $3 runs it answers now) → runs whose process died, now ours to end or give back.

Our own leases run out too while PostgreSQL is away: the next heartbeat renews them.
"""

SESSIONS_WITH_WAITING_RUNS = """
    SELECT DISTINCT q.session_id FROM chat.runs q
    WHERE q.status = 'queued' AND q.created_at < now() - make_interval(secs => $1)
      AND NOT EXISTS (
        SELECT 1 FROM chat.runs a
        WHERE a.session_id = q.session_id AND a.status IN ('running', 'awaiting_approval')
      )
    LIMIT 100
"""
"""($1 seconds) → sessions whose next run nobody has picked up for so long."""
