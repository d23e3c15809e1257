"""Fixtures of the whole test run: its servers, its databases, and a wall around the network."""

from __future__ import annotations

import ipaddress
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cleaner import Cleaner
from tests.stores import Database, StoreClient, StoreKeeper, Stores, without_developers_environment

GENEROUS = {
    "COLLOQUY_PLANS": '{"free": {"messages_per_day": 1000000, "tokens_per_day": 1000000000000, "documents": 1000000,'
    ' "storage_bytes": 1000000000000, "requests_per_minute": 1000000, "key_requests_per_minute": 1000000},'
    ' "pro": {}, "tight": {"requests_per_minute": 100, "messages_per_day": 40}}',
    "COLLOQUY_SIGN_INS_PER_MINUTE": "100000",
    "COLLOQUY_ADDRESS_SIGN_INS_PER_MINUTE": "100000",
}
"""No test may run into a limit that it is not about: people of a test ask faster than any plan allows."""

_KEEPER = pytest.StashKey[StoreKeeper]()
_SOCKET_PATH = pytest.StashKey[str]()


class NetworkBlocked(RuntimeError):
    """A test reached for another machine. Not an OSError: nothing may take it for a host that is down."""


def _stay_on_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a socket file has no host
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str) or host in ("", "localhost"):
        return
    try:
        allowed = (address := ipaddress.ip_address(host)).is_loopback or address.is_unspecified
    except ValueError:
        allowed = False
    if not allowed:
        raise NetworkBlocked(f"tests stay on this machine, and this one wanted {host}")


def pytest_configure(config: pytest.Config) -> None:
    without_developers_environment()
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker_input is not None:
        config.stash[_SOCKET_PATH] = worker_input["stores_socket"]
    else:
        keeper = StoreKeeper()
        config.stash[_KEEPER] = keeper
        config.stash[_SOCKET_PATH] = str(keeper.socket_path)
    # No `.data` of the developer either: what `colloquy up` wrote there must not reach a test.
    os.environ["COLLOQUY_DATA_DIR"] = str(Path(config.stash[_SOCKET_PATH]).parent / "data")
    os.environ.update(GENEROUS)
    # The servers here speak no TLS: asking for it costs a round trip and a TLS context for every connection.
    os.environ["PGSSLMODE"] = "disable"
    sys.addaudithook(_stay_on_loopback)


def pytest_unconfigure(config: pytest.Config) -> None:
    keeper = config.stash.get(_KEEPER, None)
    if keeper is not None:
        keeper.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's hook, in the controller, before a worker starts."""
    node.workerinput["stores_socket"] = node.config.stash[_SOCKET_PATH]


@pytest.fixture(scope="session")
def worker_number(request: pytest.FixtureRequest) -> int:
    """0 without xdist, else the number in gw0, gw1, …"""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    return int(str(worker).removeprefix("gw"))


@pytest.fixture(scope="session")
def store_client(pytestconfig: pytest.Config) -> StoreClient:
    return StoreClient(pytestconfig.stash[_SOCKET_PATH])


@pytest.fixture(scope="session")
def stores(store_client: StoreClient) -> Stores:
    """The run's PostgreSQL and Valkey. Real, shared by all workers, never to be killed."""
    return store_client.stores()


@pytest.fixture(scope="session")
def database(store_client: StoreClient, worker_number: int) -> Database:
    """This worker's migrated database. What a test commits stays: see `clean_database`."""
    return store_client.database(f"test_gw{worker_number}")


@pytest.fixture(scope="session")
def cleaner(database: Database) -> Iterator[Cleaner]:
    cleaner = Cleaner(database)
    yield cleaner
    cleaner.close()


@pytest.fixture
def clean_database(database: Database, cleaner: Cleaner) -> Iterator[Database]:
    """This worker's database without a row, before and after: for tests that commit."""
    cleaner.clean()
    yield database
    cleaner.clean()


@pytest.fixture(scope="session")
def new_database(store_client: StoreClient, worker_number: int) -> Callable[..., Database]:
    """Makes databases for one test or module alone: `new_database()`, or `new_database(migrated=False)` without tables.

    A module's fixtures may be made again in the same process, when another worker gives back what it took of it.
    """

    def make(*, migrated: bool = True) -> Database:
        return store_client.database(f"own_gw{worker_number}_{next(_COUNTER)}", migrated=migrated)

    return make


@pytest.fixture(scope="session")
def valkey(stores: Stores, worker_number: int) -> Iterator[redis.Redis]:
    """This worker's logical database of Valkey, for what is done before tests."""
    with redis.Redis.from_url(stores.redis_url(worker_number + 1)) as client:
        yield client


@pytest.fixture
def redis_url(stores: Stores, valkey: redis.Redis, worker_number: int) -> str:
    """A logical database of Valkey for this worker, empty at the start. Channels are shared by all of them."""
    valkey.flushdb()
    return stores.redis_url(worker_number + 1)


_COUNTER = itertools.count()
