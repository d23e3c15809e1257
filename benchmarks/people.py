"""A hundred people at once: what each of them waits for.

`python -m benchmarks.people`
"""

from __future__ import annotations

import asyncio

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures
from benchmarks.load import Load, run_load
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id

PEOPLE = 100
TITLE = f"{PEOPLE} people at once, one API process"
READ_GOAL = Goal(100.0, Better.LOWER)
SEND_GOAL = Goal(50.0, Better.LOWER)

_MESSAGES = 200


def measure(stack: Stack, api: Server, plan: Plan) -> list[Figure]:
    reads, sends = asyncio.run(_prepare(stack))
    figures = []
    for pause, how in ((1.0, "one request a second each"), (0.0, "each asks again at once")):
        for what, requests, status, goal in (
            ("read 50", reads, 200, READ_GOAL),
            ("send", sends, 201, SEND_GOAL),
        ):
            load = Load(
                port=api.port,
                connections=PEOPLE,
                requests=requests,
                expected_status=status,
                seconds=plan.seconds,
                warm_up_seconds=plan.warm_up_seconds,
                pause_seconds=pause,
            )
            results = [run_load(load) for _ in range(1 if plan.short else 3)]
            p50, p95, p99 = (Samples([getattr(item, name) for item in results]) for name in _PERCENTILES)
            rate = Samples([item.per_second for item in results])
            figures.append(
                Figure(
                    name=f"{what}, {how}",
                    ours=f"p50 {number(p50.median)}, p95 {number(p95.median)}, p99 {p99.text('ms')}",
                    limit=f"{number(rate.median)}/s in all",
                    judged=p95.median,
                    judged_as="p95 ms",
                    goal=goal,
                )
            )
    return figures


_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


async def _prepare(stack: Stack) -> tuple[list[bytes], list[bytes]]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        people = await seeding.add_people(connection, stack, PEOPLE)
        sessions = [new_id() for _ in range(PEOPLE)]
        # A reply is the model's time; without one, sending is what the person waits for.
        await seeding.add_sessions(connection, [person.id for person in people], sessions, "never")
        await seeding.add_messages(connection, sessions, _MESSAGES)
    finally:
        await connection.close()
    body = orjson.dumps({"content": seeding.CONTENT})
    paths = [f"/api/v1/sessions/{session_id}/messages" for session_id in sessions]
    reads = [seeding.get_request(f"{path}?limit=50", person) for path, person in zip(paths, people, strict=True)]
    sends = [seeding.post_request(path, person, body) for path, person in zip(paths, people, strict=True)]
    return reads, sends


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, stack.api(), plan))


if __name__ == "__main__":
    main()
