"""Benchmarks as their commands, in a folder of their own, with nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.stack import plain_environment

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 600
"""It says that a benchmark hangs. One that takes half a minute takes ten times that where others load the machine."""


def run(scratch: Path, *arguments: str) -> str:
    """What `python -m …` prints; fails where it does, or leaves a folder in `scratch`."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=plain_environment(TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert not list(scratch.glob("colloquy-*")), "something was left behind"
    return done.stdout


def assert_prints(printed: str, *patterns: str) -> None:
    missing = [pattern for pattern in patterns if re.search(pattern, printed) is None]
    assert not missing, printed
