"""One cluster for all fault tests of a process: each test leaves it working, and kills only what is in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.accounts import add_people
from tests.faults.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.faults.person import Person, client
from tests.faults.promises import ROUNDS

Measured = Callable[[str], None]

_START_SECONDS = 120
_ROUND_SECONDS = 60
_FIGURE = "figure"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of many rounds may take longer, and none may hang for long."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(_START_SECONDS + _ROUND_SECONDS * ROUNDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of other processes: what they print themselves nobody sees."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, line in report.user_properties:
            if name == _FIGURE and report.when == "call":
                terminalreporter.write_line(f"  {line}")


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often each fault is tried: once in CI, more by `make faults`."""
    return ROUNDS


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
async def somebody(cluster: Cluster, ledger: Ledger) -> AsyncIterator[Person]:
    [member] = await add_people(cluster, ledger, 1)
    async with client() as http:
        # Whoever waits for the model asks for its whole memory again and again.
        await http.delete(f"{cluster.url('model')}/_stats")
        anybody = Person(cluster.urls, http)
        anybody.signed_in(member.id, member.token)
        yield anybody


@pytest.fixture
async def ledger(cluster: Cluster) -> AsyncIterator[Ledger]:
    """What PostgreSQL says, whatever the service says."""
    async with asyncpg.create_pool(cluster.dsn, min_size=0, max_size=4) as pool:
        yield Ledger(pool)


@pytest.fixture
def measured(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Measured:
    """Print a figure past pytest's capture; of several at a time, at the end of the run."""
    properties: list[tuple[str, object]] = request.node.user_properties

    def say(line: str) -> None:
        if hasattr(request.config, "workerinput"):
            properties.append((_FIGURE, line))
            return
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)  # noqa: T201 - it is for the terminal

    return say
