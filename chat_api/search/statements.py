"""Finding messages by their words: who may read them, and which of them are the newest that match.

A word may be in every second message of everybody's and in none of one's own, or the other way round, and neither may
be slow. So a search looks twice. First at the newest messages that the person may read, in order: where a word is
common among them, the page is full soon. Only if it is not, the index of words is asked for all that match; it holds
the owner of each message's session as a word of its own, so it goes through what is rare of the two.
"""

from __future__ import annotations

NEAR = 3_000
"""Messages that are looked at before the index of words is asked."""
_MOST_OWNERS = 64
WINDOW = 4_000
"""Characters of a message in which matches are marked."""
_BEFORE = 200
"""Characters of them before what was found."""
LANGUAGES = (
    "english",
    "german",
    "french",
    "spanish",
    "portuguese",
    "italian",
    "dutch",
    "swedish",
    "danish",
    "norwegian",
    "finnish",
    "hungarian",
    "turkish",
    "russian",
    "greek",
    "arabic",
    "hindi",
)
"""What messages are indexed in, each in its own (`chat.language_of`). A query is asked in all of them."""

START_MARK, END_MARK = "\ue000", "\ue001"
"""Around what matched. They have no meaning of their own, and are taken out of what people wrote."""

_SHARED_WITH_ALL_THERE = """
    NOT EXISTS (
        SELECT 1 FROM chat.participants here
        WHERE here.session_id = CAST(:asked_in AS uuid) AND NOT EXISTS (
            SELECT 1 FROM chat.participants there
            WHERE there.session_id = s.id AND there.user_id = here.user_id
        )
    )
"""
"""Everybody in the session where it is asked takes part in `s` too. With no such session this holds of any."""

LISTED = f"""
    listed AS MATERIALIZED (
        SELECT s.id, s.owner_id, s.last_activity_at, sum(s.message_count) OVER (
            ORDER BY s.last_activity_at DESC, s.id DESC ROWS UNBOUNDED PRECEDING
        ) - s.message_count AS newer
        FROM chat.participants p JOIN chat.sessions s ON s.id = p.session_id
        WHERE p.user_id = :user_id AND (NOT :own OR p.role <> 'owner')
            AND (CAST(:session_id AS uuid) IS NULL OR p.session_id = :session_id)
            AND (CAST(:bot_id AS uuid) IS NULL OR s.bot_id = :bot_id)
            AND (CAST(:asked_in AS uuid) IS NULL OR {_SHARED_WITH_ALL_THERE})
    )
"""
"""Sessions to look through one by one. Not the person's own ones, if those are asked for as a whole (`own`)."""

_WANTED = """
    AND (CAST(:role AS text) IS NULL OR f.role = :role)
    AND (CAST(:after AS timestamptz) IS NULL OR f.created_at >= :after)
    AND (CAST(:before AS timestamptz) IS NULL OR f.created_at < :before)
    AND (CAST(:last_at AS timestamptz) IS NULL
        OR (f.created_at, f.session_id, f.seq) < (:last_at, CAST(:last_session AS uuid), CAST(:last_seq AS bigint)))
"""


def near(size: int, matches: str) -> str:
    """CTEs `near` of the newest messages, and `bound`: all that is newer than it was seen, or all, if it is null.

    The row of a session is written before its messages are, hence the minute.
    """
    return f"""
    own_near AS MATERIALIZED (
        SELECT f.session_id, f.created_at, f.seq, {matches} AS matches
        FROM chat.message_search f
        WHERE :own AND f.owner_id = :user_id {_WANTED}
        ORDER BY f.created_at DESC, f.session_id DESC, f.seq DESC LIMIT {size}
    ), listed_near AS MATERIALIZED (
        SELECT f.* FROM listed CROSS JOIN LATERAL (
            SELECT f.session_id, f.created_at, f.seq, {matches} AS matches
            FROM chat.message_search f
            WHERE f.session_id = listed.id {_WANTED}
            ORDER BY f.created_at DESC, f.seq DESC LIMIT {size}
        ) f
        WHERE listed.newer < {size}
    ), bound AS MATERIALIZED (
        SELECT greatest(
            (SELECT min(created_at) FROM own_near HAVING count(*) = {size}),
            (SELECT max(last_activity_at) + interval '1 minute' FROM listed WHERE newer >= {size}),
            (SELECT max(oldest) FROM (
                SELECT min(created_at) AS oldest FROM listed_near GROUP BY session_id HAVING count(*) = {size}
            ) full_ones)
        ) AS at
    ), near AS (
        SELECT * FROM own_near UNION ALL SELECT * FROM listed_near
    )
    """


SCOPE = f"""
    scope AS MATERIALIZED (
        SELECT CASE WHEN count(*) <= {_MOST_OWNERS} THEN
            CAST(string_agg('''owner:' || owner_id || '''', ' | ') AS tsquery)
        END AS owners
        FROM (
            SELECT owner_id FROM listed UNION SELECT CAST(:user_id AS uuid) WHERE :own
        ) owners
    )
"""
"""Who owns what the person may read, as a query; null where they are too many to be of help."""

MAY_READ = "((:own AND f.owner_id = :user_id) OR f.session_id IN (SELECT id FROM listed))"

VARIANT = """
    variant AS (
        SELECT t.position, t.excluded, language, to_tsquery(
            CAST(language AS regconfig),
            CASE WHEN t.excluded THEN '!' ELSE '' END
                || '''' || chat.plain_words(t.text) || '''' || CASE WHEN t.prefix THEN ':*' ELSE '' END
        ) AS words
        FROM unnest(CAST(:texts AS text[]), CAST(:prefixes AS bool[]), CAST(:exclusions AS bool[]))
            WITH ORDINALITY AS t (text, prefix, excluded, position)
        CROSS JOIN unnest(CAST(:languages AS text[])) language
    )
"""
"""CTE of each term in each language."""

ASKED = f"""
    {VARIANT}, kept AS (
        SELECT language, array_agg(position ORDER BY position) AS positions
        FROM variant WHERE numnode(words) > 0 GROUP BY language HAVING NOT bool_and(excluded)
    ), stem AS (
        SELECT kept.positions, variant.position,
            '(' || string_agg(
                DISTINCT CAST(words AS text), CASE WHEN variant.excluded THEN ' & ' ELSE ' | ' END
            ) || ')' AS words
        FROM kept JOIN variant USING (language) WHERE variant.position = ANY(kept.positions)
        GROUP BY kept.positions, variant.position, variant.excluded
    ), branch AS (
        SELECT string_agg(words, ' & ') || CASE WHEN cardinality(positions) < cardinality(CAST(:texts AS text[]))
            THEN ' & (' || (
                SELECT string_agg('''in:' || language || '''', ' | ') FROM kept WHERE kept.positions = stem.positions
            ) || ')' ELSE '' END AS words
        FROM stem GROUP BY positions
    ), asked AS MATERIALIZED (
        SELECT CAST(string_agg('(' || words || ')', ' | ') AS tsquery) AS words FROM branch
    )
"""
"""CTE `asked`: all terms, each as any language has it. Null where they are stop words in every language.

What is a stop word in some languages (`war` in German) is left out of the query for messages in these, and in these
only: the language of a message is in the index, like its owner.
"""


def shown(words: str) -> str:
    """Columns for `m` (null for a title), `s` and `f`: the text around the first match, and the same with marks.

    Marking keeps the number of characters: each that is no letter or digit becomes a space, so that the parser takes
    the same words out of it as out of what was indexed.
    """
    return f"""
        CROSS JOIN LATERAL (
            SELECT translate(coalesce(m.content, s.title), '{START_MARK}{END_MARK}', '  ') AS content
        ) written
        CROSS JOIN LATERAL (
            SELECT CASE WHEN length(written.content) <= {WINDOW} THEN 1 ELSE greatest(1, coalesce((
                SELECT min(strpos(lowered.content, mark)) FROM unnest(CAST(:marks AS text[])) mark
                WHERE strpos(lowered.content, mark) > 0
            ), 1) - {_BEFORE}) END AS start
            FROM (SELECT lower(written.content) AS content OFFSET 0) lowered
        ) place
        CROSS JOIN LATERAL (
            SELECT substr(written.content, place.start, {WINDOW}) AS excerpt,
                place.start > 1 AS begins_inside,
                length(written.content) >= place.start + {WINDOW} AS ends_inside
            OFFSET 0
        ) part
        CROSS JOIN LATERAL (
            SELECT ts_headline(
                CAST(f.language AS regconfig), regexp_replace(part.excerpt, '[^[:alnum:]]', ' ', 'g'), {words},
                'HighlightAll=true, StartSel={START_MARK}, StopSel={END_MARK}'
            ) AS marked
        ) headline
    """


FIND_BY_WORDS = f"""
    WITH {ASKED}, {LISTED}, {near(NEAR, "f.words @@ (SELECT words FROM asked)")}, near_found AS MATERIALIZED (
        SELECT near.session_id, near.created_at, near.seq FROM near, bound
        WHERE near.matches AND (bound.at IS NULL OR near.created_at > bound.at)
        ORDER BY near.created_at DESC, near.session_id DESC, near.seq DESC LIMIT :limit
    ), {SCOPE}, far_found AS MATERIALIZED (
        SELECT f.session_id, f.created_at, f.seq FROM chat.message_search f
        WHERE (SELECT at FROM bound) IS NOT NULL AND (SELECT count(*) FROM near_found) < :limit
            AND f.words @@ (SELECT coalesce(asked.words && scope.owners, asked.words) FROM asked, scope)
            AND {MAY_READ} {_WANTED}
        ORDER BY f.created_at DESC, f.session_id DESC, f.seq DESC LIMIT :limit
    ), found AS (
        SELECT * FROM far_found
        UNION ALL
        SELECT * FROM near_found
        WHERE (SELECT at FROM bound) IS NULL OR (SELECT count(*) FROM near_found) = :limit
    )
    SELECT m.id AS message_id, f.session_id, s.title AS session_title, f.seq, f.role, u.username AS sender,
        f.created_at, part.*, headline.marked
    FROM found JOIN chat.message_search f USING (session_id, created_at, seq)
    JOIN chat.sessions s ON s.id = f.session_id
    LEFT JOIN chat.messages m ON m.session_id = f.session_id AND m.seq = f.seq
    LEFT JOIN chat.users u ON u.id = m.sender_id
    {shown("(SELECT words FROM asked)")}
    ORDER BY f.created_at DESC, f.session_id DESC, f.seq DESC
"""
"""(user_id, own, session_id, bot_id, asked_in, role, after, before, last_at, last_session, last_seq, texts, prefixes,
exclusions, marks, languages, limit) → messages and titles that have all the terms, the newest first.
"""

MEANT = 10_000
"""The newest messages, whose vectors are compared with that of the query, one by one."""

FIND_BY_MEANING = f"""
    WITH {ASKED}, {LISTED}, {near(MEANT, "true")}, nearest AS MATERIALIZED (
        SELECT v.session_id, near.created_at, v.seq,
            chat.similarity(v.vector, chat.as_vector(CAST(:vector AS real[]))) AS score
        FROM near JOIN chat.message_vectors v ON v.session_id = near.session_id AND v.seq = near.seq
        WHERE v.model = :model
        ORDER BY score DESC, near.created_at DESC, v.session_id DESC, v.seq DESC LIMIT :limit
    )
    SELECT m.id AS message_id, f.session_id, s.title AS session_title, f.seq, f.role, u.username AS sender,
        f.created_at, part.*, headline.marked, nearest.score
    FROM nearest JOIN chat.message_search f USING (session_id, created_at, seq)
    JOIN chat.sessions s ON s.id = f.session_id
    LEFT JOIN chat.messages m ON m.session_id = f.session_id AND m.seq = f.seq
    LEFT JOIN chat.users u ON u.id = m.sender_id
    {shown("(SELECT coalesce(words, CAST('' AS tsquery)) FROM asked)")}
    ORDER BY nearest.score DESC, f.created_at DESC, f.session_id DESC, f.seq DESC
"""
"""The same, with vector and model → messages and titles by the model's vectors, the nearest first."""
