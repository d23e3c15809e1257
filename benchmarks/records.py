"""Finding and counting in 1,000,000 messages of 20,000 sessions: search, lists, statistics, each with its plan.

`python -m benchmarks.records`, smaller with `--messages 100000`
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.explained import Plan as StatementPlan
from benchmarks.explained import explain_from_now_on, plans_of
from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.load import Load, run_load
from benchmarks.plan import Plan
from benchmarks.processes import cpu_seconds
from benchmarks.records_data import Records, fill
from benchmarks.stack import Server, Stack, stop_on_signals
from shared.security import ServiceName, service_signer

MESSAGES = 1_000_000
MESSAGES_IN_SHORT = 6_000
EACH = 50
CLIENTS = 1
"""One request after the other. More would measure how many processes share the work, not how long it takes."""

SEARCH_GOAL = Goal(100.0, Better.LOWER)
LIST_GOAL = Goal(30.0, Better.LOWER)
STATISTICS_GOAL = Goal(50.0, Better.LOWER)
ANALYTICS_GOAL = Goal(200.0, Better.LOWER)

_DATABASE = "colloquy_records"
_REQUESTS = 400
_LARGE_ROWS = 10_000
"""A table with fewer rows may be read from end to end: that is what PostgreSQL does with a few pages."""
_ROW_COUNTS = """
    SELECT c.relname, c.reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'chat' AND c.relkind = 'r'
"""


@dataclass(frozen=True)
class _Question:
    """Requests of one kind. `explained` is the one whose plan is shown: the kind's worst, by what it goes through."""

    name: str
    goal: Goal
    requests: Sequence[bytes]
    explained: bytes


def measure(stack: Stack, plan: Plan, messages: int) -> list[Figure]:
    urls = stack.new_database(_DATABASE)
    started = time.perf_counter()
    records = asyncio.run(fill(stack, urls, _DATABASE, sessions=messages // EACH, messages=messages))
    loaded = time.perf_counter() - started
    figures = [
        Figure(
            "records: to load",
            f"{records.messages:,} messages in {records.sessions:,} sessions, {number(loaded)} s",
            f"{len(records.sessions_of[records.busiest.id]):,} sessions of one person",
        )
    ]
    questions = list(_questions(records, stack.credentials.service_key))
    api = stack.api(urls)
    figures.extend(_time(api, plan, question) for question in questions)
    large = asyncio.run(_prepare_plans(stack))
    explained = stack.api(urls)
    figures.extend(_plan(question, plans_of(stack, explained, question.explained), large) for question in questions)
    return figures


def _time(api: Server, plan: Plan, question: _Question) -> Figure:
    load = Load(
        port=api.port,
        connections=CLIENTS,
        requests=question.requests,
        expected_status=200,
        seconds=plan.seconds,
        warm_up_seconds=plan.warm_up_seconds,
    )
    before = cpu_seconds(api.pid)
    results = [run_load(load) for _ in range(plan.rounds)]
    answered = sum(result.per_second * (load.seconds + load.warm_up_seconds) for result in results)
    cpu = (cpu_seconds(api.pid) - before) / answered * 1000
    p50, p95 = (Samples([getattr(result, name) for result in results]) for name in ("p50_ms", "p95_ms"))
    return Figure(
        question.name,
        f"p50 {number(p50.median)}, p95 {p95.text('ms')}",
        f"of which the API's processor {number(cpu)} ms",
        judged=p95.median,
        judged_as="p95 ms",
        goal=question.goal,
    )


def _plan(question: _Question, plans: Sequence[StatementPlan], large: frozenset[str]) -> Figure:
    """Raises where a large table is read from end to end: then no figure means anything for more rows."""
    for plan in plans:
        through = large.intersection(plan.scanned)
        assert not through, f"{question.name} goes through {sorted(through)}: {plan.statement}"
    longest_first = sorted(plans, key=lambda plan: plan.milliseconds, reverse=True)
    used = dict.fromkeys(name for plan in longest_first for name in plan.indexes)
    milliseconds = sum(plan.milliseconds for plan in plans)
    return Figure(f"plan: {question.name}", f"PostgreSQL {number(milliseconds)} ms, {', '.join(used)}")


async def _prepare_plans(stack: Stack) -> frozenset[str]:
    """Have statements explained from now on; the names of the tables that are large."""
    await explain_from_now_on(stack, _DATABASE)
    connection = await asyncpg.connect(stack.superuser_dsn(_DATABASE))
    try:
        rows = await connection.fetch(_ROW_COUNTS)
    finally:
        await connection.close()
    return frozenset(row["relname"] for row in rows if row["reltuples"] > _LARGE_ROWS)


def _questions(records: Records, service_key: str) -> Iterator[_Question]:
    order = random.Random(3)
    others = [person for person in records.others if person.id in records.sessions_of][:500]
    words = records.words
    asked = [
        *words.common,
        *words.seldom,
        *words.rare,
        *(f"{word[:4]}*" for word in words.seldom[:10]),
        *(f'"{phrase}"' for phrase in words.phrases),
        *(f"{one} {other}" for one, other in zip(words.common, words.seldom, strict=False)),
        *(f"{one} {other}" for one, other in zip(words.rare, words.seldom, strict=False)),
        *(f"{one} -{other}" for one, other in zip(words.seldom, words.common, strict=False)),
    ]

    def search(person: seeding.Person, query: str) -> bytes:
        return seeding.get_request(f"/api/v1/search?mode=text&limit=20&q={quote(query)}", person)

    signer = service_signer(service_key, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API)
    agent = signer.mint(ServiceName.AGENT_SERVICE.value)

    def for_tool(person: seeding.Person, query: str) -> bytes:
        body = orjson.dumps({"user_id": str(person.id), "query": query, "limit": 10})
        return seeding.post_request("/api/v1/search/messages", seeding.Person(person.id, agent), body)

    three = [" ".join(several) for several in itertools.combinations(words.common, 3)]
    sentences = [
        f"what did we say about the {rare} and the {common} of {seldom}"
        for rare, common, seldom in zip(words.rare, itertools.cycle(words.common), words.seldom, strict=False)
    ]
    for who, people in (("2,000 sessions", [records.busiest]), ("a few sessions", others)):
        who = who.replace("2,000", f"{len(records.sessions_of[records.busiest.id]):,}")
        yield _Question(
            f"search, {who}",
            SEARCH_GOAL,
            [search(order.choice(people), order.choice(asked)) for _ in range(_REQUESTS)],
            search(people[0], words.rare[0]),
        )
        yield _Question(
            f"search for a word of everybody, {who}",
            SEARCH_GOAL,
            [search(order.choice(people), order.choice(words.common)) for _ in range(_REQUESTS)],
            search(people[0], words.common[0]),
        )
        yield _Question(
            f"search for three words of everybody, {who}",
            SEARCH_GOAL,
            [search(order.choice(people), order.choice(three)) for _ in range(_REQUESTS)],
            search(people[0], three[0]),
        )
        yield _Question(
            f"search for a tool, {who}",
            SEARCH_GOAL,
            [for_tool(order.choice(people), order.choice(sentences)) for _ in range(_REQUESTS)],
            for_tool(people[0], sentences[0]),
        )
    pages = ("", "&status=active", "&sort=created_at", "&tag=planning", "&q=people", "&q=nowhere+to+be+found")
    yield _Question(
        "session list",
        LIST_GOAL,
        [
            seeding.get_request(f"/api/v1/sessions?limit=50{order.choice(pages)}", person)
            for person in (order.choice([records.busiest, order.choice(others)]) for _ in range(_REQUESTS))
        ],
        seeding.get_request("/api/v1/sessions?limit=50", records.busiest),
    )
    yield _Question(
        "session list with q=, many sessions",
        LIST_GOAL,
        [seeding.get_request(f"/api/v1/sessions?limit=50&q={order.choice(words.rare)}", records.busiest)]
        + [seeding.get_request(f"/api/v1/sessions?limit=50&q={word}", records.busiest) for word in words.common],
        seeding.get_request(f"/api/v1/sessions?limit=50&q={words.rare[0]}", records.busiest),
    )
    yield from _counted(records, others, order)


def _counted(records: Records, others: Sequence[seeding.Person], order: random.Random) -> Iterator[_Question]:
    usual = [(person, order.choice(records.sessions_of[person.id])) for person in others]
    for name, chosen in (
        ("statistics of a session", usual),
        ("statistics of the longest", [(records.busiest, session_id) for session_id in records.long[:10]]),
    ):
        requests = [seeding.get_request(f"/api/v1/sessions/{session}/statistics", person) for person, session in chosen]
        yield _Question(name, STATISTICS_GOAL, requests, requests[0])
    today = datetime.now(UTC).date()
    period = f"from={today - timedelta(days=29)}&to={today}"
    for name, path, groups, people in (
        (
            "analytics of a person, 30 days",
            "/api/v1/analytics/me",
            ("day", "model", "tool"),
            [records.busiest, *others],
        ),
        ("analytics of everybody, 30 days", "/api/v1/analytics/global", ("day", "model", "tool"), [records.admin]),
    ):
        requests = [
            seeding.get_request(f"{path}?{period}&group_by={order.choice(groups)}", order.choice(people))
            for _ in range(_REQUESTS)
        ]
        yield _Question(name, ANALYTICS_GOAL, requests, seeding.get_request(f"{path}?{period}&group_by=day", people[0]))


def title(messages: int) -> str:
    return f"Finding and counting among {messages:,} stored messages, one request after the other"


def main() -> None:
    stop_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="see that it runs; the figures mean little")
    parser.add_argument("--messages", type=int, help=f"stored messages (default: {MESSAGES:,})")
    arguments = parser.parse_args()
    short = Plan(rounds=1, seconds=0.1, warm_up_seconds=0.0, short=True)  # there are many questions
    plan = short if arguments.short else Plan(rounds=3, seconds=3.0)
    messages = arguments.messages or (MESSAGES_IN_SHORT if arguments.short else MESSAGES)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(title(messages), measure(stack, plan, messages))


if __name__ == "__main__":
    main()
