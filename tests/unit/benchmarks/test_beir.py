"""Test collections are read as they are, and measured as trec_eval measures them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.beir import NotADataset, load, ndcg, quality, recall, reciprocal_rank

JUDGED = {"a": 2, "b": 1, "c": 0}


def write(folder: Path, *, qrels: str) -> Path:
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(qrels)
    rows = [{"_id": "a", "title": "Tides", "text": "Twice a day."}, {"_id": "b", "title": "", "text": "Ebb."}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text('{"_id": "1", "text": "tide"}\n{"_id": "2", "text": "not judged"}\n')
    return folder


def test_a_folder_is_read(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, qrels="query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n"))

    assert dataset.documents == {"a": "Tides\n\nTwice a day.", "b": "Ebb."}
    assert dataset.queries == {"1": "tide"}
    assert dataset.judgements == {"1": {"a": 1, "b": 0}}


@pytest.mark.parametrize("qrels", ["query-id\tcorpus-id\tscore\n", "1\ta\t0\n", "9\ta\t1\n"])
def test_what_judges_nothing_is_refused(tmp_path: Path, qrels: str) -> None:
    with pytest.raises(NotADataset):
        load(write(tmp_path, qrels=qrels))


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADataset, match=r"test\.tsv"):
        load(tmp_path)


def test_gain_is_discounted_by_rank_and_held_against_the_best_order() -> None:
    ideal = 2 / math.log2(2) + 1 / math.log2(3)

    assert ndcg(["a", "b", "c"], JUDGED, 10) == pytest.approx(1.0)
    assert ndcg(["c", "b", "a"], JUDGED, 10) == pytest.approx((1 / math.log2(3) + 2 / math.log2(4)) / ideal)
    assert ndcg(["x"] * 10 + ["a"], JUDGED, 10) == 0
    assert ndcg([], JUDGED, 10) == 0


def test_recall_counts_what_is_relevant_within_the_depth() -> None:
    assert recall(["b", "x", "a"], JUDGED, 2) == 0.5
    assert recall(["b", "x", "a"], JUDGED, 3) == 1.0


def test_the_reciprocal_rank_is_that_of_the_first_relevant() -> None:
    assert reciprocal_rank(["c", "x", "b", "a"], JUDGED, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x"] * 10 + ["a"], JUDGED, 10) == 0


def test_a_query_without_an_answer_counts_as_nothing() -> None:
    found = quality({"1": ["a"]}, {"1": {"a": 1}, "2": {"b": 1}})

    assert (found.ndcg_10, found.recall_10, found.recall_100, found.mrr_10) == (0.5, 0.5, 0.5, 0.5)
