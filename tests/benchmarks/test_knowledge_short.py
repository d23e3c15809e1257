"""The benchmarks of documents and search, each once, with little: that they run and print what they promise."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.commands import assert_prints, run

SUBJECTS = ("harbours", "windmills", "glaciers", "violins", "beehives", "volcanoes", "lighthouses", "printing presses")


def test_retrieval_on_a_collection_of_one_subject_each(scratch: Path) -> None:
    folder = scratch / "subjects"
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {
            "_id": str(index),
            "title": f"About {subject}",
            "text": f"Here is told what {subject} are, and who needs them.",
        }
        for index, subject in enumerate(SUBJECTS)
    ]
    queries = [{"_id": f"q{index}", "text": f"who needs {subject}?"} for index, subject in enumerate(SUBJECTS)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = "".join(f"q{index}\t{index}\t1\n" for index in range(len(SUBJECTS)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)

    printed = run(scratch, "benchmarks.retrieval", "--dataset", str(folder))

    # Nobody could fail to find these; so a figure below 1 is a fault of the pipeline.
    assert_prints(
        printed,
        r"text: nDCG@10 1\.0000 +recall@10 1\.0000, recall@100 1\.0000, MRR@10 1\.0000",
        r"dense: nDCG@10 1\.0000",
        r"hybrid: nDCG@10 1\.0000",
        r"hybrid beside its better part .* goal ≥ -0\.01: met",
    )


def test_search(scratch: Path) -> None:
    assert_prints(
        run(scratch, "benchmarks.search", "--short"),
        r"hybrid search in 600 .* goal ≤ 15",
        r"passages of others, 10 tenants +0 of [\d,]+ .* goal ≤ 0\.00: met",
        r"recall@10, 1,000 passages .* goal ≥ 0\.97",
        r"recall@10, 200 passages .* goal ≥ 0\.97: met",
    )


def test_ingest(scratch: Path) -> None:
    assert_prints(
        run(scratch, "benchmarks.ingest", "--short"),
        r"ingest .* the model alone .* ratio [\d.,]+ \| goal ≥ 0\.90",
        r"memory: worker .* goal ≤ 600: met",
        r"memory: agent .* goal ≤ 900: met",
    )
