"""Test collections in BEIR's form, and the measures that are usual for them.

A folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/test.tsv` (query,
document, relevance). Described in Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of
Information Retrieval Models", 2021; the measures are those of trec_eval.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Ranking = Sequence[str]
Judgements = Mapping[str, int]
"""Relevance by document, of one query. What is not judged counts as not relevant."""


class NotADataset(Exception):
    """The folder is not what this reads; the message says what is missing."""


@dataclass(frozen=True)
class Dataset:
    """`queries` are those with judgements; `documents` is text by id, the title first."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def load(folder: Path) -> Dataset:
    """Read a collection. Raises `NotADataset`."""
    judgements = _judgements(folder / "qrels" / "test.tsv")
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(folder / "queries.jsonl")}
    documents = {
        str(row["_id"]): "\n\n".join(part for part in (str(row.get("title") or ""), str(row["text"])) if part.strip())
        for row in _rows(folder / "corpus.jsonl")
    }
    missing = [query for query in judgements if query not in queries]
    if missing:
        raise NotADataset(f"{folder}: {len(missing)} judged queries are not in queries.jsonl")
    return Dataset(
        name=folder.resolve().name,
        documents=documents,
        queries={query: queries[query] for query in judgements},
        judgements=judgements,
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (OSError, ValueError) as error:
        raise NotADataset(f"{path} cannot be read: {error}") from None


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines, delimiter="\t"):
                if len(row) >= 3 and row[2].lstrip("-").isdigit():  # the first line names the columns
                    found[row[0]][row[1]] = int(row[2])
    except OSError as error:
        raise NotADataset(f"{path} cannot be read: {error}") from None
    relevant = {query: judged for query, judged in found.items() if any(grade > 0 for grade in judged.values())}
    if not relevant:
        raise NotADataset(f"{path} judges no document as relevant")
    return relevant


@dataclass(frozen=True)
class Quality:
    """Means over all judged queries; a query without an answer counts as 0."""

    ndcg_10: float
    recall_10: float
    recall_100: float
    mrr_10: float


def quality(rankings: Mapping[str, Ranking], judgements: Mapping[str, Judgements]) -> Quality:
    rows = [(rankings.get(query, ()), judged) for query, judged in judgements.items()]
    return Quality(
        ndcg_10=_mean([ndcg(ranking, judged, 10) for ranking, judged in rows]),
        recall_10=_mean([recall(ranking, judged, 10) for ranking, judged in rows]),
        recall_100=_mean([recall(ranking, judged, 100) for ranking, judged in rows]),
        mrr_10=_mean([reciprocal_rank(ranking, judged, 10) for ranking, judged in rows]),
    )


def ndcg(ranking: Ranking, judged: Judgements, depth: int) -> float:
    """Discounted gain of the first `depth`, the relevance itself as gain, over the best that could be had."""
    gained = sum(judged.get(document, 0) / math.log2(rank + 2) for rank, document in enumerate(ranking[:depth]))
    best = sorted((grade for grade in judged.values() if grade > 0), reverse=True)[:depth]
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
    return gained / ideal if ideal else 0.0


def recall(ranking: Ranking, judged: Judgements, depth: int) -> float:
    relevant = {document for document, grade in judged.items() if grade > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Ranking, judged: Judgements, depth: int) -> float:
    for rank, document in enumerate(ranking[:depth], start=1):
        if judged.get(document, 0) > 0:
            return 1 / rank
    return 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
