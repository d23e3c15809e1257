"""`colloquy seed`, as a person starts it: the whole command, with its interpreter, against the local embedder.

`python -m benchmarks.seed`
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import asyncpg

from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.stack import Server, Stack, plain_environment, stop_on_signals

TITLE = "Seeding an empty database, the agent and its embedder running"
SMALL_GOAL = Goal(1.0, Better.LOWER)
LARGE_GOAL = Goal(30.0, Better.LOWER)

_COUNTS = """
    SELECT (SELECT count(*) FROM chat.sessions) AS conversations, (SELECT count(*) FROM chat.messages) AS messages,
        (SELECT count(*) FROM chat.documents WHERE status = 'ready') AS documents,
        (SELECT count(*) FROM agent.chunk_vectors) AS passages
"""


@dataclass(frozen=True)
class _Seeded:
    seconds: float
    embedded: int
    counts: dict[str, int]


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    agent = stack.local_agent()
    if not plan.short:
        _seed(stack, agent, "small")  # the embedder loads, and the interpreter's files come into memory
    small = [_seed(stack, agent, "small") for _ in range(plan.rounds)]
    figures = [_figure("small", small, SMALL_GOAL)]
    if not plan.short:
        figures.append(_figure("large", [_seed(stack, agent, "large")], LARGE_GOAL))
    return figures


def _figure(size: str, seeded: list[_Seeded], goal: Goal) -> Figure:
    seconds = Samples([one.seconds for one in seeded])
    counts = ", ".join(f"{count:,} {what}" for what, count in seeded[-1].counts.items())
    return Figure(
        f"seed --size {size}",
        seconds.text("s"),
        f"{counts}; texts embedded: {number(seeded[-1].embedded)}",
        judged=seconds.median,
        judged_as="s",
        goal=goal,
    )


def _seed(stack: Stack, agent: Server, size: str) -> _Seeded:
    """Into what was emptied before, so each round makes the same rows."""
    asyncio.run(_empty(stack))
    variables = stack.variables(stack.urls) | {"COLLOQUY_AGENT_PORT": str(agent.port)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "chat_api", "seed", "--size", size],
        env=plain_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    embedded = re.search(r"\(([\d,]+) had to be embedded\)", done.stdout)
    assert embedded is not None, done.stdout + done.stderr
    return _Seeded(seconds, int(embedded[1].replace(",", "")), asyncio.run(_counts(stack)))


async def _empty(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        await connection.execute(
            "TRUNCATE chat.users, agent.collections, agent.chunk_vectors, agent.chunk_terms CASCADE"
        )
        await connection.execute("TRUNCATE agent.embedded_texts, agent.terms, chat.outbox")
    finally:
        await connection.close()


async def _counts(stack: Stack) -> dict[str, int]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        return dict(await connection.fetchrow(_COUNTS))
    finally:
        await connection.close()


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, plan))


if __name__ == "__main__":
    main()
