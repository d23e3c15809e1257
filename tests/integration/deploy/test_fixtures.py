"""The fixtures other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
import redis

from deploy.local.ports import is_free
from tests.cleaner import emptying_statement
from tests.conftest import NetworkBlocked
from tests.stores import ROOT, Database, without_developers_environment

INTERRUPTED = """
import os, signal, sys
from tests.stores import StoreClient, StoreKeeper
keeper = StoreKeeper()
stores = StoreClient(str(keeper.socket_path)).stores()
print(keeper.folder, stores.postgres_port, stores.redis_port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_roles_reach_the_workers_database(database: Database) -> None:
    for url in (database.owner_url, database.api_url, database.agent_url):
        connection = await asyncpg.connect(Database.dsn(url))
        assert await connection.fetchval("SELECT current_database()") == database.name
        await connection.close()


async def test_cleaning_takes_every_row_but_those_of_migrations(database: Database) -> None:
    connection = await asyncpg.connect(Database.dsn(database.superuser_url))
    try:
        await connection.execute(
            "CREATE TABLE chat.first (id int PRIMARY KEY); CREATE TABLE chat.second (id int REFERENCES chat.first);"
            "CREATE TABLE agent.third (id int); CREATE TABLE agent.seeded (id int);"
            "INSERT INTO chat.first VALUES (1); INSERT INTO chat.second VALUES (1);"
            "INSERT INTO agent.third VALUES (1); INSERT INTO agent.seeded VALUES (1)"
        )
        await connection.execute(emptying_statement((*database.seeded, "agent.seeded")))
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM chat.first), (SELECT count(*) FROM chat.second),"
            " (SELECT count(*) FROM agent.third), (SELECT count(*) FROM agent.seeded)"
        )
        assert counts is not None
        assert tuple(counts) == (0, 0, 0, 1)
    finally:
        await connection.execute("DROP TABLE chat.first, chat.second, agent.third, agent.seeded")
        await connection.close()


def test_nothing_stays_when_the_test_run_is_killed() -> None:
    killed = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder, *ports = killed.stdout.split()
    deadline = time.monotonic() + 60
    while Path(folder).exists() or not all(is_free("127.0.0.1", int(port)) for port in ports):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_developer_has_set_does_not_reach_tests() -> None:
    environment = {"COLLOQUY_SECRET_KEY": "x", "GOOGLE_API_KEY": "x", "https_proxy": "x", "PGHOST": "x", "PATH": "/bin"}
    environment["COLLOQUY_FAULT_ROUNDS"] = "5"
    without_developers_environment(environment)
    assert environment == {"PATH": "/bin", "COLLOQUY_FAULT_ROUNDS": "5"}
    assert "colloquy-tests-" in os.environ["COLLOQUY_DATA_DIR"]


def test_redis_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


def test_redis_is_empty_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


async def test_other_machines_are_out_of_reach() -> None:
    with pytest.raises(NetworkBlocked):
        await asyncpg.connect("postgresql://nobody@192.0.2.1/x", timeout=30)
