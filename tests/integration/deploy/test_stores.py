"""The embedded servers: started, killed, orphaned, started twice."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from deploy.local import processes
from deploy.local.binaries import valkey_server
from deploy.local.credentials import Credentials
from deploy.local.database import DatabaseUrls, prepare
from deploy.local.errors import CannotStart
from deploy.local.migrated import is_migrated, remember_migrated
from deploy.local.ports import is_free
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey
from tests.stores import Database

Server = EmbeddedPostgres | EmbeddedValkey
NewServer = Callable[[], Server]


@pytest.fixture
def credentials(data_dir: Path) -> Credentials:
    return Credentials.load_or_create(data_dir)


@pytest.fixture(scope="module")
def made_dir(modules_data_dir: Path) -> Path:
    """A folder with a database, for many tests: making one takes longer than what happens to it here."""
    made = Credentials.load_or_create(modules_data_dir)
    server = EmbeddedPostgres(modules_data_dir, made)
    try:
        server.start()
        prepare(server, made)
    finally:
        server.stop()
    return modules_data_dir


@pytest.fixture
def postgres(made_dir: Path) -> Iterator[EmbeddedPostgres]:
    """On the folder of the module. What a test leaves in the database must not disturb the next."""
    server = EmbeddedPostgres(made_dir, Credentials.load_or_create(made_dir))
    yield server
    server.stop()


@pytest.fixture
def new_postgres(data_dir: Path, credentials: Credentials) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, credentials)
    yield server
    server.stop()


@pytest.fixture(params=["postgres", "valkey"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Where `new_server` makes servers of one kind."""
    path: Path = request.getfixturevalue("made_dir" if request.param == "postgres" else "data_dir")
    return path


@pytest.fixture
def new_server(folder: Path, request: pytest.FixtureRequest) -> Iterator[NewServer]:
    """Makes servers of one kind, all on the same folder."""
    made: list[Server] = []
    kind = EmbeddedPostgres if request.node.callspec.params["folder"] == "postgres" else EmbeddedValkey

    def make() -> Server:
        made.append(kind(folder, Credentials.load_or_create(folder)))
        return made[-1]

    yield make
    for server in made:
        server.stop()


async def run(url: str, sql: str) -> object:
    connection = await asyncpg.connect(Database.dsn(url), timeout=30)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_keeps_what_was_acknowledged_when_it_is_killed(
    postgres: EmbeddedPostgres, made_dir: Path
) -> None:
    credentials = Credentials.load_or_create(made_dir)
    postgres.start()
    urls = prepare(postgres, credentials)
    await run(urls.owner, "CREATE TABLE chat.kept (number int)")
    for number in range(2):
        await run(urls.api, f"INSERT INTO kept VALUES ({number})")
        postgres.kill()
        assert postgres.poll() == -signal.SIGKILL
        postgres.start()
        assert prepare(postgres, credentials) == urls
    assert await run(urls.api, "SELECT count(*) FROM kept") == 2
    await run(urls.owner, "DROP TABLE chat.kept")


async def test_postgres_has_its_settings(postgres: EmbeddedPostgres, made_dir: Path) -> None:
    credentials = Credentials.load_or_create(made_dir)
    postgres.start()
    urls = prepare(postgres, credentials)
    shown = {
        name: await run(urls.owner, f"SHOW {name}")
        for name in (
            "fsync",
            "listen_addresses",
            "max_connections",
            "timezone",
            "server_encoding",
        )
    }
    assert shown == {
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "max_connections": "200",
        "timezone": "UTC",
        "server_encoding": "UTF8",
    }
    for wrong in (urls.api.replace(credentials.api, "wrong"), urls.api.replace(f":{credentials.api}", ":")):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await run(wrong, "SELECT 1")


def test_valkey_keeps_every_key_when_it_is_killed(data_dir: Path, credentials: Credentials) -> None:
    valkey = EmbeddedValkey(data_dir, credentials)
    valkey.start()
    try:
        url = valkey.url()
        with redis.Redis.from_url(url) as client:
            for number in range(200):
                client.set(f"key {number}", number)
        valkey.kill()
        valkey.start()
        assert valkey.url() == url
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 200
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert (data_dir / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0
    finally:
        valkey.stop()


def test_it_stops_and_starts_again(new_server: NewServer) -> None:
    server = new_server()
    server.start()
    server.start()  # nothing to do
    pid = server.pid
    server.stop()
    assert not psutil.pid_exists(pid)
    server.stop()  # nothing to do
    server.start()
    assert server.poll() is None


def test_two_on_one_folder(new_server: NewServer) -> None:
    first, second = new_server(), new_server()
    first.start()
    with pytest.raises(CannotStart, match=f"process {os.getpid()} already runs"):
        second.start()
    assert first.poll() is None
    first.stop()
    second.start()


def test_an_orphan_that_is_slow_to_answer_is_waited_for(data_dir: Path, credentials: Credentials) -> None:
    """Two servers must never write to the same files."""
    earlier = EmbeddedValkey(data_dir, credentials)
    earlier.start()
    earlier.stop()
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", earlier.port)) as listener:

        def answer_late() -> None:
            silent, _ = listener.accept()
            while b"SHUTDOWN" not in b"".join(asked):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(b"+OK\r\n+PONG\r\n")
            listener.close()
            silent.close()

        orphan = threading.Thread(target=answer_late, daemon=True)
        orphan.start()
        later = EmbeddedValkey(data_dir, credentials)
        later.start()
        later.stop()
    orphan.join(30)
    assert b"SHUTDOWN" in b"".join(asked)


def test_an_orphan_is_stopped_and_its_data_kept(new_server: NewServer, folder: Path) -> None:
    first = new_server()
    first.start()
    first.stop()
    # The same server, started by somebody who is gone: nobody holds the lock.
    if isinstance(first, EmbeddedPostgres):
        postgres: list[str | Path] = [first.bin / "postgres", "-D", folder / "postgres", "-p", str(first.port)]
        command: list[str | Path] = [*postgres, "-c", "unix_socket_directories="]
    else:
        command = [valkey_server(), folder / "valkey" / "valkey.conf"]
    account = processes.unprivileged_account() if isinstance(first, EmbeddedPostgres) else None
    orphan = processes.spawn(command, account=account, death_signal=signal.SIGTERM)
    pid_file = folder / "postgres" / "postmaster.pid"
    deadline = time.monotonic() + 30
    while not (pid_file.exists() if isinstance(first, EmbeddedPostgres) else not is_free("127.0.0.1", first.port)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = new_server()
    second.start()
    assert orphan.wait(30) == 0
    assert second.poll() is None


def test_a_stale_process_number_in_the_way_is_no_obstacle(postgres: EmbeddedPostgres, made_dir: Path) -> None:
    """After a restart of a container, the number in postmaster.pid may be anybody's: here it is ours."""
    postgres.start()
    postgres.kill()
    pid_file = made_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    postgres.start()  # PostgreSQL itself would refuse for as long as we live
    assert postgres.poll() is None


def test_a_port_that_is_taken_is_told(data_dir: Path, credentials: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        valkey = EmbeddedValkey(data_dir, credentials, port=listener.getsockname()[1])
        with pytest.raises(CannotStart, match="Address already in use"):
            valkey.start()
    assert valkey.poll() == 0


def test_an_unfinished_initdb_is_swept_away(new_postgres: EmbeddedPostgres, data_dir: Path) -> None:
    left_over = data_dir / "initdb-half"
    left_over.mkdir()
    (left_over / "password").write_text("x")
    new_postgres.start()
    assert not left_over.exists()
    assert [path.name for path in data_dir.glob("initdb-*")] == []


def test_a_missing_database_folder_part_is_told_in_a_line(postgres: EmbeddedPostgres, made_dir: Path) -> None:
    control = made_dir / "postgres" / "global" / "pg_control"
    control.rename(made_dir / "pg_control")
    try:
        with pytest.raises(CannotStart) as raised:
            postgres.start()
    finally:
        (made_dir / "pg_control").rename(control)
    assert str(raised.value).startswith("PostgreSQL does not start: ")
    assert "\n" not in str(raised.value)


async def test_it_remembers_what_was_migrated(postgres: EmbeddedPostgres, made_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "0001_first.py").write_text("first")
    postgres.start()
    urls: DatabaseUrls = prepare(postgres, Credentials.load_or_create(made_dir))
    assert not is_migrated(postgres, made_dir, tmp_path)
    remember_migrated(postgres, made_dir, tmp_path)
    assert not is_migrated(postgres, made_dir, tmp_path)  # there is no version table yet
    await run(urls.owner, "CREATE TABLE migrations.alembic_version AS SELECT '0001' AS version_num")
    remember_migrated(postgres, made_dir, tmp_path)
    assert is_migrated(postgres, made_dir, tmp_path)
    await run(urls.owner, "UPDATE migrations.alembic_version SET version_num = '0000'")
    assert not is_migrated(postgres, made_dir, tmp_path)
    await run(urls.owner, "UPDATE migrations.alembic_version SET version_num = '0001'")
    (tmp_path / "0002_second.py").write_text("second")
    assert not is_migrated(postgres, made_dir, tmp_path)
    await run(urls.owner, "DROP TABLE migrations.alembic_version")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_folder_that_only_root_can_enter(tmp_path: Path, data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    credentials = Credentials.load_or_create(closed)
    server = EmbeddedPostgres(closed, credentials, shared_state=data_dir)
    for _ in range(2):
        server.start()
        prepare(server, credentials)
        server.stop()
    assert (closed / "postgres").readlink().parent == data_dir
    assert len(list(data_dir.iterdir())) == 1
    told = capfd.readouterr().out.splitlines()
    assert len(told) == 1
    assert f"its files go to {data_dir}" in told[0]
