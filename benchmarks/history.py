"""Reading the last 50 of 10,000 messages, against a bare ASGI application that runs the same statement.

`python -m benchmarks.history`
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request
from uuid import UUID

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, print_figures, ratio_figure
from benchmarks.load import Load, LoadResult, run_load
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id

TITLE = "Read the last 50 of 10,000 messages: 16 clients, 10 sessions, one API process"
CLIENTS = 16
SESSIONS = 10
GOAL = Goal(0.50, Better.HIGHER)


def measure(stack: Stack, api: Server, plan: Plan) -> list[Figure]:
    person, sessions = asyncio.run(_prepare(stack, plan.history_messages))
    bare = stack.serve(
        "bare-history",
        [sys.executable, "-m", "benchmarks.bare_history"],
        path="/ready",
        BARE_DATABASE_URL=stack.urls.api.replace("+asyncpg", ""),
    )
    paths = [f"/api/v1/sessions/{session_id}/messages?limit=50" for session_id in sessions]
    bare_paths = [f"/{session_id}/{person.id}" for session_id in sessions]
    _check_equal(api, paths[0], bare, bare_paths[0], person)
    ours: list[LoadResult] = []
    limit: list[LoadResult] = []
    cpu = cpu_seconds(api.pid)
    for _ in range(plan.rounds):
        ours.append(run_load(_load(api, [seeding.get_request(path, person) for path in paths], plan)))
        limit.append(run_load(_load(bare, [seeding.get_request(path, person) for path in bare_paths], plan)))
    cpu = cpu_seconds(api.pid) - cpu
    # The process also worked during the warm-ups, at the same pace.
    answers = sum(item.answers * (1 + plan.warm_up_seconds / plan.seconds) for item in ours)
    latency = [Samples([getattr(item, name) for item in ours]) for name in ("p50_ms", "p95_ms", "p99_ms")]
    return [
        ratio_figure(
            "history",
            Samples([item.per_second for item in ours]),
            Samples([item.per_second for item in limit]),
            "windows/s",
            "bare ASGI",
            GOAL,
        ),
        Figure("history: p50, p95, p99", ", ".join(item.text("ms") for item in latency)),
        Figure("history: time of the API process", f"{cpu / answers * 1e6:.0f} µs a window"),
    ]


async def _prepare(stack: Stack, messages: int) -> tuple[seeding.Person, list[UUID]]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        sessions = [new_id() for _ in range(SESSIONS)]
        await seeding.add_sessions(connection, [person.id], sessions, "never")
        await seeding.add_messages(connection, sessions, messages)
        await connection.execute("VACUUM ANALYZE chat.messages")
    finally:
        await connection.close()
    return person, sessions


def _load(server: Server, requests: list[bytes], plan: Plan) -> Load:
    return Load(
        port=server.port,
        connections=CLIENTS,
        requests=requests,
        expected_status=200,
        seconds=plan.seconds,
        warm_up_seconds=plan.warm_up_seconds,
    )


def _check_equal(api: Server, path: str, bare: Server, bare_path: str, person: seeding.Person) -> None:
    """Both answer the same 50 messages, or the comparison would mean nothing."""
    ours = _fetch(f"http://127.0.0.1:{api.port}{path}", person)
    assert len(orjson.loads(ours)["items"]) == 50
    assert ours == _fetch(f"http://127.0.0.1:{bare.port}{bare_path}", person)


def _fetch(url: str, person: seeding.Person) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {person.token}"})  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own address
        body: bytes = response.read()
        return body


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, stack.api(), plan))


if __name__ == "__main__":
    main()
