"""How good search is, on a test collection in BEIR's form, through the real pipeline.

`python -m benchmarks.retrieval --dataset PATH` uploads the corpus over HTTP, has the worker index it, and asks
every judged query in each mode. A document is as good as its best passage.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.beir import Dataset, Quality, load, quality
from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.knowledge import Bot, new_bot
from benchmarks.load import percentile
from benchmarks.stack import Server, Stack, stop_on_signals

TOP_K = 200
"""Passages asked for: some of them share a document, and recall is counted over 100 documents."""
MODES = ("text", "dense", "hybrid")
_GOALS = {
    "scifact": {"text": Goal(0.68, Better.HIGHER), "hybrid": Goal(0.73, Better.HIGHER)},
}
FUSION_GOAL = Goal(-0.01, Better.HIGHER)
_SHORT_QUERIES = 20
_SHORT_DOCUMENTS = 120


@dataclass(frozen=True)
class _Mode:
    quality: Quality
    milliseconds: list[float]


def title(dataset: Dataset) -> str:
    return f"Retrieval: {dataset.name}, {len(dataset.documents):,} documents, {len(dataset.queries):,} judged queries"


def measure(stack: Stack, dataset: Dataset) -> list[Figure]:
    agent = stack.local_agent()
    api = stack.api(agent_port=agent.port)
    stack.worker(agent_port=agent.port)
    modes, documents, seconds = asyncio.run(_measure(stack, api, dataset))
    goals = _GOALS.get(dataset.name, {})
    figures = [_mode_figure(name, mode, goals.get(name)) for name, mode in modes.items()]
    best = max(modes["text"].quality.ndcg_10, modes["dense"].quality.ndcg_10)
    figures.append(
        Figure(
            "hybrid beside its better part",
            f"nDCG@10 {modes['hybrid'].quality.ndcg_10:.4f}",
            limit=f"better part {best:.4f}",
            judged=modes["hybrid"].quality.ndcg_10 - best,
            judged_as="difference",
            goal=FUSION_GOAL,
        )
    )
    figures.append(
        Figure("ingest", f"{number(seconds)} s", limit=f"{number(documents / seconds)} documents/s, upload to ready")
    )
    return figures


def _mode_figure(name: str, mode: _Mode, goal: Goal | None) -> Figure:
    found = mode.quality
    took = sorted(mode.milliseconds)
    measures = f"recall@10 {found.recall_10:.4f}, recall@100 {found.recall_100:.4f}, MRR@10 {found.mrr_10:.4f}"
    times = f"p50 {number(Samples(took).median)} ms, p95 {number(percentile(took, 0.95))} ms"
    return Figure(
        name=f"{name}: nDCG@10 {found.ndcg_10:.4f}",
        ours=f"{measures}, {times}",
        judged=None if goal is None else found.ndcg_10,
        judged_as="nDCG@10",
        goal=goal,
    )


async def _measure(stack: Stack, api: Server, dataset: Dataset) -> tuple[dict[str, _Mode], int, float]:
    files = {f"{index}.txt": text.encode() for index, text in enumerate(dataset.documents.values()) if text.strip()}
    names = {f"{index}.txt": document for index, document in enumerate(dataset.documents)}
    async with new_bot(stack, api, dataset.name) as bot:
        started = time.perf_counter()
        ids = await bot.ingest(files, label="documents ready")
        seconds = time.perf_counter() - started
        documents: dict[str, list[str]] = {}
        for name, document_id in ids.items():
            documents.setdefault(document_id, []).append(names[name])
        modes = {mode: await _ask(bot, dataset, mode, documents) for mode in MODES}
    return modes, len(ids), seconds


async def _ask(bot: Bot, dataset: Dataset, mode: str, documents: Mapping[str, list[str]]) -> _Mode:
    found, took = await bot.search_all(dataset.queries, mode=mode, top_k=TOP_K)
    rankings = {
        query: _ranking((passage["document_id"] for passage in passages), documents)
        for query, passages in found.items()
    }
    return _Mode(quality(rankings, dataset.judgements), took)


def _ranking(passages: Iterable[str], documents: Mapping[str, list[str]]) -> list[str]:
    """The collection's own ids in the order of their best passages; copies of one text follow each other."""
    return [document for found in dict.fromkeys(passages) for document in documents[found]]


def shortened(dataset: Dataset) -> Dataset:
    """Some queries, what answers them, and others beside it: enough to see that it runs."""
    queries = dict(list(dataset.queries.items())[:_SHORT_QUERIES])
    wanted = {document for query in queries for document in dataset.judgements[query]}
    others = [document for document in dataset.documents if document not in wanted]
    kept = wanted.union(others[: _SHORT_DOCUMENTS - len(wanted)])
    return Dataset(
        name=f"part of {dataset.name}",
        documents={document: text for document, text in dataset.documents.items() if document in kept},
        queries=queries,
        judgements={query: dataset.judgements[query] for query in queries},
    )


def main() -> None:
    stop_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="a folder in BEIR's form")
    parser.add_argument("--short", action="store_true", help="a small part of it, to see that it runs")
    arguments = parser.parse_args()
    dataset = load(arguments.dataset)
    if arguments.short:
        dataset = shortened(dataset)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(title(dataset), measure(stack, dataset))


if __name__ == "__main__":
    main()
