"""The benchmarks of records, each once, with little: that they run and print what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stack import plain_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter, which pytest's are not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="colloquy-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def assert_prints(scratch: Path, module: str, *patterns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--short"],
        cwd=ROOT,
        env=plain_environment(TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert not list(scratch.glob("colloquy-*")), "something was left behind"
    missing = [pattern for pattern in patterns if re.search(pattern, done.stdout) is None]
    assert not missing, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_finding_and_counting(scratch: Path) -> None:
    """Each question has its time and its plan; one that goes through a large table ends the benchmark."""
    assert_prints(
        scratch,
        "benchmarks.records",
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
        r"plan: analytics of everybody, 30 days +.*analytics_days",
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seeding(scratch: Path) -> None:
    assert_prints(
        scratch,
        "benchmarks.seed",
        r"seed --size small .* 10 conversations, \d+ messages, 1 documents, 5 passages; .* goal ≤ 1",
    )
