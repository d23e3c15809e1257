"""Finding messages for a tool: a model asks in sentences, so any of the words will do, and the rare ones count most."""

from __future__ import annotations

from chat_api.messages.documents import timestamp
from chat_api.search.statements import LISTED, MAY_READ, SCOPE, VARIANT, near, shown

NEAR = 2_000
"""The newest messages, in which every word is looked for."""
_RARE = 20
"""A word that fewer of them have is looked for in all messages."""
_MOST_FAR = 500

_WORDS_IN_IT = """CASE WHEN f.role IN ('user', 'assistant') AND f.words @@ (SELECT words FROM asked) THEN
        ARRAY(SELECT word.position FROM word WHERE f.words @@ word.words) END"""

FIND_FOR_TOOL = f"""
    WITH permitted AS (
        SELECT 1 WHERE CAST(:asked_in AS uuid) IS NULL OR EXISTS (
            SELECT 1 FROM chat.participants p WHERE p.session_id = CAST(:asked_in AS uuid) AND p.user_id = :user_id
        )
    ), {VARIANT}, word AS MATERIALIZED (
        SELECT position, CAST(string_agg(DISTINCT CAST(words AS text), ' | ') AS tsquery) AS words
        FROM variant WHERE numnode(words) > 0 GROUP BY position
    ), asked AS MATERIALIZED (
        SELECT CAST(string_agg(CAST(words AS text), ' | ') AS tsquery) AS words FROM word
    ), {LISTED}, {near(NEAR, _WORDS_IN_IT)}, {SCOPE}, rare AS MATERIALIZED (
        SELECT CAST(string_agg('(' || CAST(word.words AS text) || ')', ' | ') AS tsquery) AS words
        FROM word
        WHERE (SELECT at FROM bound) IS NOT NULL
            AND (SELECT count(*) FROM near WHERE word.position = ANY(near.matches)) < {_RARE}
    ), far AS MATERIALIZED (
        SELECT f.session_id, f.created_at, f.seq, {_WORDS_IN_IT} AS matches
        FROM chat.message_search f
        WHERE (SELECT words FROM rare) IS NOT NULL
            AND f.words @@ (SELECT coalesce(rare.words && scope.owners, rare.words) FROM rare, scope)
            AND {MAY_READ} AND f.role IN ('user', 'assistant')
        ORDER BY f.created_at DESC, f.session_id DESC, f.seq DESC LIMIT {_MOST_FAR}
    ), seen AS (
        SELECT * FROM near WHERE matches IS NOT NULL
        UNION
        SELECT * FROM far
    ), candidate AS (
        SELECT seen.* FROM seen
        JOIN chat.messages m ON m.session_id = seen.session_id AND m.seq = seen.seq
        WHERE m.status IN ('complete', 'cancelled') AND NOT EXISTS (
            SELECT 1 FROM chat.runs r
            WHERE r.session_id = CAST(:asked_in AS uuid) AND r.status IN ('running', 'awaiting_approval')
                AND r.session_id = m.session_id AND r.trigger_message_id = m.id
        )
    ), hit AS (
        SELECT session_id, created_at, seq, unnest(matches) AS position FROM candidate
    ), weight AS (
        -- As BM25 has it, with the messages that hold the most common word in the place of all.
        SELECT position, ln(1 + (max(count(*)) OVER () - count(*) + 0.5) / (count(*) + 0.5)) AS weight
        FROM hit GROUP BY position
    ), best AS (
        SELECT session_id, created_at, seq, sum(weight) AS score
        FROM hit JOIN weight USING (position)
        GROUP BY session_id, created_at, seq
        ORDER BY score DESC, created_at DESC, session_id DESC, seq DESC LIMIT :limit
    ), found AS (
        SELECT m.id AS message_id, f.session_id, s.title AS session_title, f.seq, f.role, u.username AS sender,
            {timestamp("f.created_at")} AS created_at, part.*, headline.marked, best.score, f.created_at AS moment
        FROM best JOIN chat.message_search f USING (session_id, created_at, seq)
        JOIN chat.sessions s ON s.id = f.session_id
        JOIN chat.messages m ON m.session_id = f.session_id AND m.seq = f.seq
        LEFT JOIN chat.users u ON u.id = m.sender_id
        {shown("(SELECT words FROM asked)")}
    )
    SELECT found.* FROM permitted LEFT JOIN found ON true
    ORDER BY found.score DESC, found.moment DESC, found.session_id DESC, found.seq DESC
"""
"""The parameters of `FIND_BY_WORDS` → messages, the best first.

No row: the person does not take part in the session in which it is asked. One row of nulls: nothing was found. A rare
word counts more than a common one, and of equals the newest message comes first. The message that the session's active
run answers is left out: it holds the very words that are asked for.
"""
