"""How fast documents become searchable, against the embedding model alone on the same texts.

`python -m benchmarks.ingest`; `--largest` ingests one document of the largest size allowed and looks at memory only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from pydoc_data.topics import topics

import asyncpg

from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures, ratio_figure
from benchmarks.knowledge import new_bot
from benchmarks.plan import Plan
from benchmarks.processes import memory_mib
from benchmarks.stack import Server, Stack, plain_environment, stop_on_signals
from chat_api.config import ApiSettings

TITLE = "Ingest: uploaded over HTTP, extracted, chunked, embedded, searchable"
RATIO_GOAL = Goal(0.9, Better.HIGHER)
WORKER_GOAL = Goal(600.0, Better.LOWER)
AGENT_GOAL = Goal(900.0, Better.LOWER)

_DOCUMENT_CHARACTERS = 24_000
_DOCUMENTS = 10
_TEXTS = """
    SELECT concat_ws(E'\\n', c.heading, c.text) AS text
    FROM agent.chunks c WHERE c.collection_id = $1 AND c.document_id = ANY($2)
"""


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    agent, api, worker = _services(stack)
    return asyncio.run(_measure(stack, agent, api, worker, plan))


def _services(stack: Stack) -> tuple[Server, Server, int]:
    agent = stack.local_agent()
    return agent, stack.api(agent_port=agent.port), stack.worker(agent_port=agent.port)


async def _measure(stack: Stack, agent: Server, api: Server, worker: int, plan: Plan) -> list[Figure]:
    rounds, documents, characters = (1, 2, 3_000) if plan.short else (3, _DOCUMENTS, _DOCUMENT_CHARACTERS)
    ours: list[float] = []
    bare: list[float] = []
    chunks = 0
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        async with new_bot(stack, api, "Measured") as bot:
            await bot.ingest({"warm-up.txt": document(0, 0, 2_000)}, label="warm-up")
            for turn in range(1, rounds + 1):
                files = {f"{turn}-{index}.txt": document(turn, index, characters) for index in range(documents)}
                started = time.perf_counter()
                ids = await bot.ingest(files, label=f"round {turn}")
                seconds = time.perf_counter() - started
                texts = [row["text"] for row in await connection.fetch(_TEXTS, bot.id, list(ids.values()))]
                chunks += len(texts)
                ours.append(len(texts) / seconds)
                bare.append(len(texts) / await asyncio.to_thread(_bare, texts))
    finally:
        await connection.close()
    return [
        ratio_figure("ingest", Samples(ours), Samples(bare), "chunks/s", "the model alone", RATIO_GOAL),
        *_memory_figures(agent, worker, f"after {chunks} chunks"),
    ]


def _bare(texts: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare_embedding"],
        input=json.dumps(texts),
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])  # the embedder's log goes before it


def _memory_figures(agent: Server, worker: int, when: str) -> list[Figure]:
    figures = []
    for name, pid, goal in (("worker", worker, WORKER_GOAL), ("agent", agent.pid, AGENT_GOAL)):
        now, most = memory_mib(pid)
        ours = f"{number(most)} MiB at most, {number(now)} {when}"
        figures.append(Figure(f"memory: {name}", ours, judged=most, judged_as="MiB", goal=goal))
    return figures


def document(turn: int, index: int, characters: int) -> bytes:
    """English prose of a manual, never the same twice: a text that is known is not embedded again."""
    chosen = random.Random(f"{turn}/{index}")
    paragraphs = [" ".join(part.split()) for text in topics.values() for part in text.split("\n\n") if len(part) > 80]
    parts: list[str] = []
    size = 0
    while size < characters:
        sentences = chosen.choice(paragraphs).split(". ")
        sentences.insert(chosen.randrange(len(sentences) + 1), f"See note {turn}.{index}.{len(parts)}")
        parts.append(". ".join(sentences))
        size += len(parts[-1]) + 2
    return "\n\n".join(parts)[:characters].encode()


def measure_largest(stack: Stack) -> list[Figure]:
    """One text as long as is allowed: what it costs in memory."""
    agent, api, worker = _services(stack)
    text = document(9, 9, ApiSettings.model_fields["max_document_characters"].default)

    async def ingest() -> float:
        async with new_bot(stack, api, "Measured") as bot:
            started = time.perf_counter()
            await bot.ingest({"largest.txt": text}, label="the largest document")
            return time.perf_counter() - started

    seconds = asyncio.run(ingest())
    taken = Figure("the largest document", f"{len(text):,} characters in {number(seconds)} s")
    return [taken, *_memory_figures(agent, worker, "afterwards")]


def main() -> None:
    stop_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="see that it runs; the figures mean little")
    parser.add_argument("--largest", action="store_true", help="memory for one document of the largest size (minutes)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with Stack() as stack:
        plan = Plan.shortest() if arguments.short else Plan()
        print_figures(TITLE, measure_largest(stack) if arguments.largest else measure(stack, plan))


if __name__ == "__main__":
    main()
