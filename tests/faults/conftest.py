"""One cluster for all fault tests of a process: each test leaves it working, and kills only what is in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.faults.person import Person, person

Measured = Callable[[str], None]

# Read now: before the first test starts, variables of this project are taken from the environment.
_ROUNDS = int(os.environ.get("COLLOQUY_FAULT_ROUNDS", "1"))
_ROUND_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of many rounds may take longer, and none may hang for long."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(30 + _ROUND_SECONDS * _ROUNDS))


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often each fault is tried: once in CI, more by `make faults`."""
    return _ROUNDS


@pytest.fixture(scope="session")
def whole_cluster(worker_number: int) -> Iterator[Cluster]:
    # Beside the data folder of this test run, which is removed whatever becomes of the run.
    with Cluster(Path(os.environ["COLLOQUY_DATA_DIR"]).parent / f"cluster-{worker_number}") as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    whole_cluster.check()
    sizes = whole_cluster.log_sizes()
    yield whole_cluster
    for line in whole_cluster.troubles_since(sizes):
        print(line)  # noqa: T201 - pytest shows it with a test that failed
    whole_cluster.check()


@pytest.fixture
async def somebody(cluster: Cluster) -> AsyncIterator[Person]:
    async with person(*cluster.urls) as anybody:
        yield anybody


@pytest.fixture
async def ledger(cluster: Cluster) -> AsyncIterator[Ledger]:
    """What PostgreSQL says, whatever the service says."""
    async with asyncpg.create_pool(cluster.dsn, min_size=0, max_size=4) as pool:
        yield Ledger(pool)


@pytest.fixture
def measured(capsys: pytest.CaptureFixture[str]) -> Measured:
    """Print a figure past pytest's capture."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)  # noqa: T201 - it is for the terminal

    return say
