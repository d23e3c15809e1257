"""Finding messages in one statement: who may read them, which are looked at, which are the best.

Nothing is indexed for it. It looks at the newest messages of the sessions that were active last, so what it costs
does not grow with how much somebody has ever said.
"""

from __future__ import annotations

from chat_api.messages.documents import timestamp

MOST_MESSAGES = 5_000
"""Messages that one search looks at."""
MOST_CHARACTERS = 10_000
"""Of each message, from its beginning."""
SNIPPET_CHARACTERS = 240
_BEFORE = 60
"""Characters of a snippet before what was found."""

_SHARED_WITH_ALL_HERE = """
    NOT EXISTS (
        SELECT 1 FROM chat.participants here
        WHERE here.session_id = CAST(:session_id AS uuid) AND NOT EXISTS (
            SELECT 1 FROM chat.participants there
            WHERE there.session_id = s.id AND there.user_id = here.user_id
        )
    )
"""
"""Everybody in the session where it is asked takes part in `s` too. With no such session this holds of any."""

FIND_MESSAGES = f"""
    WITH asked AS (
        SELECT 1 WHERE CAST(:session_id AS uuid) IS NULL OR EXISTS (
            SELECT 1 FROM chat.participants p WHERE p.session_id = CAST(:session_id AS uuid) AND p.user_id = :user_id
        )
    ), active AS (
        SELECT s.id, sum(s.message_count) OVER (
            ORDER BY s.last_activity_at DESC, s.id DESC ROWS UNBOUNDED PRECEDING
        ) - s.message_count AS newer_messages
        FROM chat.participants p JOIN chat.sessions s ON s.id = p.session_id
        WHERE p.user_id = :user_id AND s.message_count > 0 AND {_SHARED_WITH_ALL_HERE}
    ), seen AS (
        SELECT m.session_id, m.seq, m.created_at, m.content
        FROM active CROSS JOIN LATERAL (
            SELECT * FROM chat.messages m WHERE m.session_id = active.id ORDER BY m.seq DESC LIMIT {MOST_MESSAGES}
        ) m
        WHERE active.newer_messages < {MOST_MESSAGES} AND m.deleted_at IS NULL
            AND m.role IN ('user', 'assistant') AND m.status IN ('complete', 'cancelled')
            AND NOT EXISTS (
                SELECT 1 FROM chat.runs r
                WHERE r.session_id = CAST(:session_id AS uuid) AND r.status IN ('running', 'awaiting_approval')
                    AND r.session_id = m.session_id AND r.trigger_message_id = m.id
            )
        ORDER BY m.created_at DESC, m.session_id DESC, m.seq DESC LIMIT {MOST_MESSAGES}
    ), word AS (
        SELECT lower(w.text) AS text, ' ' || lower(w.text) AS spaced, lower(w.pattern) AS pattern
        FROM unnest(CAST(:words AS text[]), CAST(:patterns AS text[])) AS w (text, pattern)
    ), hit AS (
        SELECT seen.session_id, seen.seq, seen.created_at, word.text AS word, found.at
        FROM seen
        -- OFFSET 0 keeps the planner from writing `lower` once for each word.
        CROSS JOIN LATERAL (SELECT lower(substr(seen.content, 1, {MOST_CHARACTERS})) AS content OFFSET 0) lowered
        CROSS JOIN word
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN strpos(lowered.content, word.text) = 0 THEN 0
                WHEN word.pattern IS NULL THEN strpos(lowered.content, word.text)
                -- Most words begin after a space, and a regular expression costs ten times as much.
                WHEN starts_with(lowered.content, word.text) THEN 1
                WHEN strpos(lowered.content, word.spaced) > 0 THEN strpos(lowered.content, word.spaced) + 1
                ELSE regexp_instr(lowered.content, word.pattern)
            END AS at
            OFFSET 0
        ) found
        WHERE found.at > 0
    ), weight AS (
        -- As BM25 has it, with the messages that hold the most common word in the place of all.
        SELECT word, ln(1 + (max(count(*)) OVER () - count(*) + 0.5) / (count(*) + 0.5)) AS weight
        FROM hit GROUP BY word
    ), best AS (
        SELECT session_id, seq, created_at, sum(weight) AS score,
            greatest(1, (array_agg(at ORDER BY weight DESC, length(word) DESC))[1] - {_BEFORE}) AS start
        FROM hit JOIN weight USING (word)
        GROUP BY session_id, seq, created_at
        ORDER BY score DESC, created_at DESC, session_id DESC, seq DESC LIMIT :limit
    ), found AS (
        SELECT m.id AS message_id, m.session_id, s.title AS session_title, m.seq, m.role, u.username AS sender,
            {timestamp("m.created_at")} AS created_at,
            substr(m.content, best.start, {SNIPPET_CHARACTERS}) AS excerpt,
            best.start > 1 AS begins_inside,
            length(m.content) >= best.start + {SNIPPET_CHARACTERS} AS ends_inside,
            best.score, best.created_at AS moment
        FROM best
        JOIN chat.messages m ON m.session_id = best.session_id AND m.seq = best.seq
        JOIN chat.sessions s ON s.id = m.session_id
        LEFT JOIN chat.users u ON u.id = m.sender_id
    )
    SELECT found.* FROM asked LEFT JOIN found ON true
    ORDER BY found.score DESC, found.moment DESC, found.session_id DESC, found.seq DESC
"""
"""(user_id, session_id or null, words, patterns, limit) → messages, the best first.

No row: the person does not take part in that session. One row of nulls: nothing was found. A rare word counts more
than a common one, and of equals the newest message comes first. The message that the session's active run answers is
left out: it holds the very words that are asked for.
"""
