"""What it costs a message to be counted: two databases on one server, one without the triggers of the figures.

`python -m benchmarks.analytics`
"""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.load import Load, LoadResult, run_load
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import children
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.analytics.folding import fold
from chat_api.analytics.recount import Recount
from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from deploy.local.database import DatabaseUrls

TITLE = "Counting what is said: 32 writers, 100 sessions, folding all the time, fsync on"
CLIENTS = 32
SESSIONS = 100
GOAL = Goal(0.95, Better.HIGHER)

_FOLD_SECONDS = 5.0
_ROUNDS_FOR_ONE = 3
"""So small a difference needs more, shorter rounds than a comparison with another program."""

_TRIGGERS = """
    SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'chat' AND t.tgname LIKE 'analytics%'
"""


@dataclass
class _Side:
    """One of the two: its API, what it is sent, what it did."""

    name: str
    urls: DatabaseUrls
    api: Server
    load: Load
    results: list[LoadResult] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds a message, of the API and of PostgreSQL together."""


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    counted, uncounted = (_side(stack, plan, name) for name in ("colloquy_counted", "colloquy_uncounted"))
    asyncio.run(_without_triggers(stack, uncounted.name))
    with _folding(counted.urls):
        for turn in range(plan.rounds * _ROUNDS_FOR_ONE):
            # Each begins as often as the other: what came before is a little warmer.
            for side in (counted, uncounted) if turn % 2 else (uncounted, counted):
                _round(stack, side)
    asyncio.run(_is_right(counted.urls))
    ratios = [
        mine.per_second / other.per_second for mine, other in zip(counted.results, uncounted.results, strict=True)
    ]
    more = [mine - other for mine, other in zip(counted.cpu, uncounted.cpu, strict=True)]
    return [
        Figure(
            "analytics: append",
            Samples([item.per_second for item in counted.results]).text("messages/s"),
            f"uncounted {Samples([item.per_second for item in uncounted.results]).text('messages/s')}",
            judged=statistics.median(ratios),
            judged_as="ratio",
            goal=GOAL,
        ),
        Figure(
            "analytics: processor time",
            f"{number(statistics.median(more))} µs more a message",
            f"of {Samples(uncounted.cpu).text('µs')}",
        ),
    ]


def _side(stack: Stack, plan: Plan, name: str) -> _Side:
    urls = stack.new_database(name)
    requests = asyncio.run(_prepare(stack, name))
    api = stack.api(urls)
    seconds = max(1.0, plan.seconds / _ROUNDS_FOR_ONE)
    load = Load(api.port, CLIENTS, requests, 201, seconds=seconds, warm_up_seconds=plan.warm_up_seconds / 2)
    return _Side(name, urls, api, load)


async def _prepare(stack: Stack, database: str) -> list[bytes]:
    connection = await asyncpg.connect(stack.superuser_dsn(database))
    try:
        people = await seeding.add_people(connection, stack, CLIENTS)
        sessions = [new_id() for _ in range(SESSIONS)]
        await seeding.add_sessions(connection, [person.id for person in people], sessions, "never")
    finally:
        await connection.close()
    body = orjson.dumps({"content": seeding.CONTENT})
    return [
        seeding.post_request(f"/api/v1/sessions/{session_id}/messages", people[index % CLIENTS], body)
        for index, session_id in enumerate(sessions)
    ]


async def _without_triggers(stack: Stack, database: str) -> None:
    connection = await asyncpg.connect(stack.superuser_dsn(database))
    try:
        for row in await connection.fetch(_TRIGGERS):
            await connection.execute(f"DROP TRIGGER {row['tgname']} ON chat.{row['relname']}")
    finally:
        await connection.close()


def _round(stack: Stack, side: _Side) -> None:
    before = _busy_seconds(stack, side.api)
    result = run_load(side.load)
    spent = _busy_seconds(stack, side.api) - before
    side.results.append(result)
    # The warm-up is in the time, and so it is in the messages.
    side.cpu.append(spent / (result.per_second * (side.load.seconds + side.load.warm_up_seconds)) * 1e6)


def _busy_seconds(stack: Stack, api: Server) -> float:
    """Of the API, and of PostgreSQL with all that it started."""
    postgres = int((stack.folder / "postgres" / "postmaster.pid").read_text().split()[0])
    return sum(_ran(pid) for pid in (api.pid, postgres, *children(postgres)))


def _ran(pid: int) -> float:
    """Seconds on a processor, to the nanosecond: a round is too short for the kernel's ticks."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError:  # it ended meanwhile
        return 0.0


@contextmanager
def _folding(urls: DatabaseUrls) -> Iterator[None]:
    """Fold as often as the worker does."""
    stop = threading.Event()

    async def keep_folding() -> None:
        database = await Database.open(ApiSettings(database_url=urls.api))
        try:
            while not await asyncio.to_thread(stop.wait, _FOLD_SECONDS):
                await fold(database)
            await fold(database)
        finally:
            await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(keep_folding()), name="folding")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _is_right(urls: DatabaseUrls) -> None:
    database = await Database.open(ApiSettings(database_url=urls.api))
    try:
        differences = await Recount(database).differences()
        assert differences == [], f"{len(differences)} figures are not what a recount gives"
    finally:
        await database.close()


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, plan))


if __name__ == "__main__":
    main()
