"""The benchmarks of records, each once, with little: that they run and print what they promise."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.commands import assert_prints, run


def test_finding_and_counting(scratch: Path) -> None:
    """Each question has its time and its plan; one that goes through a large table ends the benchmark."""
    assert_prints(
        run(scratch, "benchmarks.records", "--short"),
        r"records: to load +\d,\d+ messages in \d+ sessions",
        r"search, \d+ sessions +p50 .* goal ≤ 100",
        r"search for a word of everybody, a few sessions +p50 .* goal ≤ 100",
        r"session list +p50 .* goal ≤ 30",
        r"statistics of the longest +p50 .* goal ≤ 50",
        r"analytics of a person, 30 days +p50 .* goal ≤ 200",
        r"analytics of everybody, 30 days +p50 .* goal ≤ 200",
        r"plan: search, .*ix_message_search_words",
        r"plan: session list ",
        r"plan: statistics of a session +.*pk_",
        r"plan: analytics of a person, 30 days +.*analytics_user_days",
        # A small table is read from end to end where PostgreSQL has looked at it before: then its index is not named.
        r"plan: analytics of everybody, 30 days +.*analytics_(user_)?days",
    )


def test_seeding(scratch: Path) -> None:
    assert_prints(
        run(scratch, "benchmarks.seed", "--short"),
        r"seed --size small .* 10 conversations, \d+ messages, 1 documents, 5 passages; .* goal ≤ 1",
    )
