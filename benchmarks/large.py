"""Reading history out of 10,000,000 stored messages, against the same out of 10,000.

`python -m benchmarks.large`, smaller with `--messages 100000`
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures
from benchmarks.load import Load, LoadResult, run_load
from benchmarks.plan import Plan
from benchmarks.stack import Stack, stop_on_signals
from chat_api.kit.models import new_id
from chat_api.messages.documents import WINDOW_AFTER, WINDOW_BEFORE

EACH = 1_000
SMALL = 10_000
CLIENTS = 16
GOAL = Goal(1.3, Better.LOWER)
_SMALL_DATABASE = "colloquy_small"
_LARGE_DATABASE = "colloquy_large"
_COHORT = 100  # sessions that are written at the same time
_REQUESTS = 20_000


@dataclass(frozen=True)
class _Filled:
    person: seeding.Person
    sessions: list[UUID]
    seconds: float
    gigabytes: float
    plans: list[str]


def measure(stack: Stack, plan: Plan, messages: int) -> list[Figure]:
    """`messages` in 1,000 to a session; both databases are on one server and each has an API process of its own."""
    filled, loads = {}, {}
    for name, count in ((_SMALL_DATABASE, min(SMALL, messages)), (_LARGE_DATABASE, messages)):
        urls = stack.new_database(name)
        filled[name] = asyncio.run(_fill(stack, name, count))
        api = stack.api(urls)
        loads[name] = Load(
            port=api.port,
            connections=CLIENTS,
            requests=_requests(filled[name]),
            expected_status=200,
            seconds=plan.seconds,
            warm_up_seconds=plan.warm_up_seconds,
        )
    results: dict[str, list[LoadResult]] = {name: [] for name in loads}
    for _ in range(plan.rounds):
        for name, load in loads.items():
            results[name].append(run_load(load))
    small = Samples([item.p50_ms for item in results[_SMALL_DATABASE]])
    large = Samples([item.p50_ms for item in results[_LARGE_DATABASE]])
    ratio = Samples([mine / other for mine, other in zip(large.values, small.values, strict=True)])
    p95 = [Samples([item.p95_ms for item in results[name]]) for name in (_LARGE_DATABASE, _SMALL_DATABASE)]
    big = filled[_LARGE_DATABASE]
    return [
        Figure(
            f"large: p50 of {messages:,}",
            large.text("ms"),
            f"of {min(SMALL, messages):,} {small.text('ms')}",
            judged=ratio.median,
            judged_as="ratio",
            goal=GOAL,
        ),
        Figure("large: p95", p95[0].text("ms"), p95[1].text("ms")),
        Figure("large: to load", f"{number(big.seconds)} s, {number(messages / big.seconds)} rows/s"),
        Figure("large: on disk", f"{number(big.gigabytes)} GB with indexes"),
        Figure("large: plan", ", ".join(big.plans)),
    ]


async def _fill(stack: Stack, database: str, messages: int) -> _Filled:
    connection = await asyncpg.connect(stack.superuser_dsn(database))
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        sessions = [new_id() for _ in range(messages // EACH)]
        await seeding.add_sessions(connection, [person.id], sessions, "never")
        started = time.perf_counter()
        # The rows are sound by construction, and loading is not what is measured.
        await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        for start in range(0, len(sessions), _COHORT):
            await seeding.add_messages(connection, sessions[start : start + _COHORT], EACH)
        await connection.execute("VACUUM ANALYZE chat.messages")
        seconds = time.perf_counter() - started
        size = await connection.fetchval("SELECT pg_total_relation_size('chat.messages')")
        plans = await _plans(connection, sessions[len(sessions) // 2], person.id)
    finally:
        await connection.close()
    return _Filled(person, sessions, seconds, size / 1e9, plans)


async def _plans(connection: asyncpg.Connection, session_id: UUID, user_id: UUID) -> list[str]:
    """How the messages are found, both ways; raises where it is not by index alone."""
    found = []
    # The generic plan is what a prepared statement ends up with.
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    for name, statement in (("before", WINDOW_BEFORE), ("after", WINDOW_AFTER)):
        lines = [
            row[0].strip()
            for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}", session_id, user_id, EACH // 2, 50)
        ]
        assert not any(line.startswith(("->  Seq Scan on messages", "Seq Scan on messages")) for line in lines), lines
        scan = next(line for line in lines if "Index" in line and "on messages" in line)
        found.append(f"{name}: {scan.removeprefix('->').strip()}")
    return found


def _requests(filled: _Filled) -> list[bytes]:
    """Any session: mostly its latest messages, sometimes those before or after a point."""
    order = random.Random(7)
    requests = []
    for _ in range(min(_REQUESTS, 20 * len(filled.sessions))):
        path = f"/api/v1/sessions/{order.choice(filled.sessions)}/messages?limit=50"
        kind = order.random()
        if kind > 0.8:
            path += f"&before_seq={order.randint(60, EACH)}"
        elif kind > 0.6:
            path += f"&after_seq={order.randint(0, EACH - 60)}"
        requests.append(seeding.get_request(path, filled.person))
    return requests


def title(messages: int) -> str:
    return f"History out of {messages:,} stored messages: {CLIENTS} clients, any session, before, after and latest"


def main() -> None:
    stop_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000, help="stored messages, in thousands")
    messages = parser.parse_args().messages // EACH * EACH
    with Stack() as stack:
        print_figures(title(messages), measure(stack, Plan(), messages))


if __name__ == "__main__":
    main()
