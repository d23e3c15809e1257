"""The data set of the records benchmark: 1,000,000 messages in 20,000 sessions, as there may be after a year.

Words follow Zipf's law, as those of any language do: a few are in every second message, most in hardly any. Sessions
are short or long, and people have few of them or thousands. Loading is not what is measured, so it goes past the
triggers; what they would have kept is made afterwards by the functions that they call.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from benchmarks import seeding
from benchmarks.stack import Stack
from chat_api.analytics.recount import Recount
from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from deploy.local.database import DatabaseUrls

_COMMON = """
    the of and to a in is it you that for on are with as they be at one have this from or had by hot but some what
    there we can out other were all your when up use word how said an each she which do their time if will way about
    many then them would write like so these her long make thing see him two has look more day could go come did my
    sound no most number who over know water than call first people may down side been now find any new work part
    take get place made live where after back little only round man year came show every good me give our under
"""
_VOCABULARY = 20_000
_SENTENCES = 40_000
_ONSETS = (
    "b",
    "br",
    "c",
    "ch",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "st",
    "t",
    "v",
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "", "n", "r", "l", "s", "t", "m", "nd", "rk")
_HEAVY_SHARE = 10
"""One session of so many is the busiest person's."""
_DAYS = 365
_LOADERS = 2

_ADD_SESSIONS = """
    INSERT INTO chat.sessions (id, title, owner_id, participant_count, message_count, last_seq, status, tags,
        last_activity_at, created_at, updated_at)
    SELECT s.id, initcap(left(t.text, 60)), s.owner_id, s.people, s.length, s.length,
        CASE WHEN s.number % 7 = 0 THEN 'archived' ELSE 'active' END,
        CASE WHEN s.number % 5 = 0 THEN ARRAY['planning'] ELSE '{}' END,
        s.began + s.length * interval '40 s', s.began, s.began
    FROM bench_sessions s JOIN bench_sentences t ON t.id = s.number % (SELECT count(*) FROM bench_sentences)
"""
_ADD_PARTICIPANTS = """
    INSERT INTO chat.participants (session_id, user_id, role, last_read_seq, joined_at)
    SELECT p.session_id, p.user_id, p.role, s.length, s.began
    FROM bench_participants p JOIN bench_sessions s ON s.id = p.session_id
"""
# Numbers out of the row's own: the same each time, and as good as dice.
_ADD_MESSAGES = """
    INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, parent_id, run_id, provider, model,
        prompt_tokens, completion_tokens, total_tokens, latency_ms, time_to_first_token_ms, created_at)
    SELECT m.session_id, m.seq, md5(m.session_id::text || m.seq)::uuid, m.role,
        CASE m.role WHEN 'user' THEN m.owner_id END,
        CASE m.dice % 3 WHEN 0 THEN a.text WHEN 1 THEN a.text || ' ' || b.text
            ELSE a.text || ' ' || b.text || ' ' || left(a.text, 80) END,
        CASE m.role WHEN 'assistant' THEN md5(m.session_id::text || m.seq - 1)::uuid END,
        md5('run' || m.session_id || (m.seq + m.seq % 2))::uuid,
        m.provider, m.model, 200 + m.dice % 2000, 20 + m.dice % 300, 220 + m.dice % 2000 + m.dice % 300,
        300 + m.dice % 9000, 100 + m.dice % 900, m.created_at
    FROM (
        SELECT s.id AS session_id, s.owner_id, n AS seq, s.began + n * interval '40 s' AS created_at,
            (hashint8extended(n, s.number) & 9223372036854775807) AS dice,
            CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END AS role,
            CASE WHEN n % 2 = 0 THEN (ARRAY['google_genai', 'openai', 'local'])[1 + s.number % 3] END AS provider,
            CASE WHEN n % 2 = 0 THEN (ARRAY['gemini-2.0-flash', 'gpt-4o-mini', 'smollm2'])[1 + s.number % 3] END
                AS model
        FROM bench_sessions s CROSS JOIN LATERAL generate_series(1, s.length) AS n
        WHERE s.number % $1 = $2
    ) AS m
    JOIN bench_sentences a ON a.id = m.dice % $3
    JOIN bench_sentences b ON b.id = (m.dice / $3) % $3
"""
_ADD_RUNS = """
    INSERT INTO chat.runs (session_id, id, trigger_message_id, reply_message_id, status, usage, attempt, requested_by,
        provider, model, cost, latency_ms, time_to_first_token_ms, created_at, started_at, finished_at)
    SELECT m.session_id, m.run_id, m.parent_id, m.id,
        CASE WHEN m.latency_ms % 50 = 0 THEN 'failed' ELSE 'completed' END,
        jsonb_build_object('prompt_tokens', m.prompt_tokens, 'completion_tokens', m.completion_tokens,
            'total_tokens', m.total_tokens),
        1, s.owner_id, m.provider, m.model, m.total_tokens * 0.0000003, m.latency_ms, m.time_to_first_token_ms,
        m.created_at, m.created_at, m.created_at + m.latency_ms * interval '1 ms'
    FROM chat.messages m JOIN bench_sessions s ON s.id = m.session_id
    WHERE m.role = 'assistant' AND s.number % $1 = $2
"""
_ADD_TOOLS = """
    INSERT INTO chat.tool_executions (session_id, id, run_id, message_id, round, position, call_id, said_characters,
        tool_name, source, risk, repeatable, parameters, arguments, status, duration_ms, attempts, requested_by,
        created_at, started_at, finished_at)
    SELECT r.session_id, md5('tool' || r.id)::uuid, r.id, r.reply_message_id, 1, 0, 'call_1', 0,
        (ARRAY['calculator', 'search_knowledge', 'current_time', 'fetch_url'])[1 + r.latency_ms % 4], 'builtin',
        'safe', true, '{}', '{}', CASE WHEN r.latency_ms % 30 = 0 THEN 'failed' ELSE 'succeeded' END,
        5 + r.latency_ms % 400, 1, r.requested_by, r.created_at, r.started_at, r.finished_at
    FROM chat.runs r WHERE r.latency_ms % 10 = 3
"""
# What `chat.index_text` writes for an English text, several times faster; `_CHECK` holds the two against each other.
_INDEX_MESSAGES = """
    INSERT INTO chat.message_search (session_id, created_at, seq, owner_id, role, language, words)
    SELECT m.session_id, m.created_at, m.seq, s.owner_id, m.role, 'english',
        to_tsvector('english', m.content) || array_to_tsvector(ARRAY['owner:' || s.owner_id, 'in:english'])
    FROM chat.messages m JOIN bench_sessions s ON s.id = m.session_id WHERE s.number % $1 = $2
"""
_CHECK = """
    WITH chosen AS MATERIALIZED (
        SELECT m.session_id, m.created_at, m.seq, s.owner_id, m.role, m.content, f.words
        FROM chat.messages m JOIN chat.sessions s ON s.id = m.session_id
        JOIN chat.message_search f
            ON f.session_id = m.session_id AND f.created_at = m.created_at AND f.seq = m.seq
        WHERE m.seq = 1 AND chat.language_of(m.content) = 'english' LIMIT 100
    ), written AS MATERIALIZED (
        SELECT chat.index_text(session_id, created_at, seq, owner_id, role, content) FROM chosen
    )
    SELECT array_agg(words::text ORDER BY session_id) FROM chosen WHERE (SELECT count(*) FROM written) > 0
"""
_CHECK_AGAIN = """
    SELECT array_agg(f.words::text ORDER BY session_id) FROM chat.message_search f
    WHERE f.xmin = pg_current_xact_id()::xid
"""
_INDEX_TITLES = "SELECT count(chat.index_text(id, created_at, 0, owner_id, 'title', title)) FROM chat.sessions"
_WORD_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'chat' AND tablename = 'message_search' AND indexdef LIKE '%USING gin%'
"""
_STAGING = ("bench_sessions", "bench_participants", "bench_sentences")


@dataclass(frozen=True)
class Words:
    """By how often they are said. `phrase` stands somewhere as it is."""

    common: list[str]
    seldom: list[str]
    rare: list[str]
    phrases: list[str]


@dataclass(frozen=True)
class Records:
    """`busiest` has thousands of sessions; the others have a few. Of `long` sessions there are hundreds of messages."""

    busiest: seeding.Person
    others: list[seeding.Person]
    admin: seeding.Person
    sessions_of: dict[UUID, list[UUID]]
    long: list[UUID]
    words: Words
    messages: int
    sessions: int


async def fill(stack: Stack, urls: DatabaseUrls, database: str, *, sessions: int, messages: int) -> Records:
    """Raises what PostgreSQL raises."""
    order = random.Random(20)
    connection = await _connect(stack, database)
    try:
        people = await seeding.add_people(connection, stack, max(20, sessions // 12))
        vocabulary = _vocabulary(order)
        sentences = _sentences(order, vocabulary)
        lengths = _lengths(order, sessions, messages)
        rows = _sessions(order, people, lengths)
        await _stage(connection, rows, sentences, order, people)
        await connection.execute(_ADD_SESSIONS)
        await connection.execute(_ADD_PARTICIPANTS)
        await _on_all_cores(stack, database, _ADD_MESSAGES, len(sentences))
        await _on_all_cores(stack, database, _ADD_RUNS)
        await connection.execute(_ADD_TOOLS)
        await connection.execute("UPDATE chat.users SET is_admin = true WHERE id = $1", people[-1].id)
        await connection.execute("ANALYZE")
        await _index_words(stack, connection, database)
        await _count_all(urls)
        await connection.execute(f"DROP TABLE {', '.join(_STAGING)}")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    sessions_of: dict[UUID, list[UUID]] = {}
    for session_id, owner_id, *_ in rows:
        sessions_of.setdefault(owner_id, []).append(session_id)
    of_busiest = [number for number, row in enumerate(rows) if row[1] == people[0].id]
    longest = sorted(of_busiest, key=lambda number: lengths[number], reverse=True)
    return Records(
        busiest=people[0],
        others=people[1:],
        admin=people[-1],
        sessions_of=sessions_of,
        long=[rows[number][0] for number in longest[:50]],
        words=_asked(vocabulary, sentences),
        messages=sum(lengths),
        sessions=len(rows),
    )


async def _connect(stack: Stack, database: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(stack.superuser_dsn(database))
    # The rows are sound by construction.
    await connection.execute(
        "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'"
    )
    return connection


async def _on_all_cores(stack: Stack, database: str, statement: str, *others: object) -> None:
    """Run it once for each share of the sessions ($1 shares, $2 the share)."""

    async def one(share: int) -> None:
        connection = await _connect(stack, database)
        try:
            await connection.execute(statement, _LOADERS, share, *others)
        finally:
            await connection.close()

    await asyncio.gather(*(one(share) for share in range(_LOADERS)))


def _vocabulary(order: random.Random) -> list[str]:
    """From the most frequent to the rarest: common English, then words that nobody has a meaning for."""
    words = dict.fromkeys(_COMMON.split())
    while len(words) < _VOCABULARY:
        parts = order.choices((1, 2, 3), (1, 5, 3))[0]
        words["".join(order.choice(_ONSETS) + order.choice(_VOWELS) + order.choice(_CODAS) for _ in range(parts))] = (
            None
        )
    return list(words)


def _sentences(order: random.Random, vocabulary: Sequence[str]) -> list[str]:
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(vocabulary))))
    return [
        " ".join(order.choices(vocabulary, cum_weights=weights, k=order.randint(5, 22))).capitalize() + "."
        for _ in range(_SENTENCES)
    ]


def _lengths(order: random.Random, sessions: int, messages: int) -> list[int]:
    """Of each session, in messages; even, because every question is answered. Together about `messages`."""
    raw = [order.lognormvariate(0, 1.1) for _ in range(sessions)]
    scale = messages / sum(raw)
    lengths = [max(2, round(one * scale / 2) * 2) for one in raw]
    lengths[0] += max(0, messages - sum(lengths)) // 2 * 2
    return lengths


_Session = tuple[UUID, UUID, int, int, int, float]


def _sessions(order: random.Random, people: Sequence[seeding.Person], lengths: Sequence[int]) -> list[_Session]:
    """Id, owner, number, length, how many people, how many days ago it began."""
    rows: list[_Session] = []
    for number, length in enumerate(lengths):
        owner = people[0] if number % _HEAVY_SHARE == 0 else people[int(len(people) * order.random() ** 2)]
        crowd = order.randint(2, 5) if order.random() < 0.1 else 1
        ago = min(order.expovariate(1 / 90), _DAYS)
        rows.append((new_id(), owner.id, number, length, crowd, ago + length * 40 / 86_400))
    return rows


async def _stage(
    connection: asyncpg.Connection,
    rows: Sequence[_Session],
    sentences: Sequence[str],
    order: random.Random,
    people: Sequence[seeding.Person],
) -> None:
    await connection.execute(
        """
        CREATE UNLOGGED TABLE bench_sentences (id bigint PRIMARY KEY, text text);
        CREATE UNLOGGED TABLE bench_sessions
            (id uuid PRIMARY KEY, owner_id uuid, number bigint, length bigint, people bigint, ago double precision,
             began timestamptz);
        CREATE UNLOGGED TABLE bench_participants (session_id uuid, user_id uuid, role text)
        """
    )
    await connection.copy_records_to_table("bench_sentences", records=list(enumerate(sentences)))
    await connection.copy_records_to_table(
        "bench_sessions", columns=["id", "owner_id", "number", "length", "people", "ago"], records=rows
    )
    await connection.execute("UPDATE bench_sessions SET began = now() - ago * interval '1 day'")
    taking_part: list[tuple[UUID, UUID, str]] = []
    for session_id, owner_id, _, _, crowd, _ in rows:
        taking_part.append((session_id, owner_id, "owner"))
        others = {person.id for person in order.sample(people, crowd)} - {owner_id}
        taking_part.extend((session_id, other, "member") for other in list(others)[: crowd - 1])
    await connection.copy_records_to_table("bench_participants", records=taking_part)
    await connection.execute("ANALYZE bench_sentences, bench_sessions, bench_participants")


async def _index_words(stack: Stack, connection: asyncpg.Connection, database: str) -> None:
    """The words of all messages. An index is made faster than it is kept, so it is made anew."""
    indexes = await connection.fetch(_WORD_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX chat.{index['indexname']}")
    await connection.execute(_INDEX_TITLES)
    await _on_all_cores(stack, database, _INDEX_MESSAGES)
    async with connection.transaction():
        ours = await connection.fetchval(_CHECK)
        theirs = await connection.fetchval(_CHECK_AGAIN)
        assert ours, "there is nothing to compare"
        assert ours == theirs, "chat.index_text writes something else by now: write it here as well"
    for index in indexes:
        await connection.execute(index["indexdef"])


async def _count_all(urls: DatabaseUrls) -> None:
    """The figures by day, as `colloquy analytics recount --repair` makes them."""
    database = await Database.open(ApiSettings.model_validate({"database_url": urls.api}))
    try:
        await Recount(database).repair()
    finally:
        await database.close()


def _asked(vocabulary: Sequence[str], sentences: Sequence[str]) -> Words:
    """Short words are often no words for a search, so these are longer."""
    first = len(_COMMON.split())
    phrases = [" ".join(sentence.rstrip(".").split()[1:3]) for sentence in sentences[:200]]
    return Words(
        common=["people", "number", "water", "place", "little", "write"],
        seldom=[word for word in vocabulary[first : first + 400] if len(word) > 4][:40],
        rare=[word for word in vocabulary[-2000:] if len(word) > 4][:80],
        phrases=[phrase for phrase in phrases if all(len(word) > 3 for word in phrase.split())][:40],
    )
