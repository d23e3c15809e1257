"""What every short benchmark needs: a folder, and time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.commands import MOST_SECONDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(MOST_SECONDS + 20))
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter, which pytest's are not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="colloquy-test-"))
    folder.chmod(0o755)
    yield folder
    # Of a benchmark that was ended the servers may still be ending.
    shutil.rmtree(folder, ignore_errors=True)
