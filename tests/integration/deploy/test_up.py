"""`colloquy up`, with real stores and stand-ins for the services."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from dotenv import dotenv_values

from deploy.local.errors import CannotStart
from deploy.local.ports import free_port
from deploy.local.up import Commands
from deploy.local.up import up as run_everything
from tests.stores import Database

STAND_INS = Path(__file__).parent / "stand_ins.py"
PATIENCE_SECONDS = 90.0

pytestmark = pytest.mark.timeout(400)


class Up:
    """One run of the command, with what it prints."""

    def __init__(self, data_dir: Path, *, api_port: int, agent_port: int, **environment: str) -> None:
        self.data_dir = data_dir
        self.api_port = api_port
        self.agent_port = agent_port
        self.lines: list[str] = []
        variables = {
            "COLLOQUY_DATA_DIR": str(data_dir),
            "COLLOQUY_API_PORT": str(api_port),
            "COLLOQUY_AGENT_PORT": str(agent_port),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(STAND_INS), "up"],
            env={**os.environ, **variables, **environment},
            cwd=data_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.output or self.process.poll() is not None, lambda: self.output)
        assert text in self.output, self.output

    def wait_until_ready(self) -> None:
        self.wait_for("Try it")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def child(self, *words: str) -> psutil.Process:
        """The direct child whose command line holds all of `words`."""
        for child in psutil.Process(self.process.pid).children():
            command = child.cmdline()
            if all(any(word in part for part in command) for word in words):
                return child
        raise LookupError(words)

    def settings(self) -> dict[str, str | None]:
        return dotenv_values(self.data_dir / "embedded.env")


def until(condition: Callable[[], bool], describe: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.02)


@pytest.fixture
def own_stores(database: Database, redis_url: str) -> dict[str, str]:
    """Settings with the stores of the test run: making new ones takes longer than what most tests are about."""
    return {
        "COLLOQUY_DATABASE_URL": database.api_url,
        "COLLOQUY_MIGRATION_DATABASE_URL": database.owner_url,
        "COLLOQUY_REDIS_URL": redis_url,
    }


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Up]]:
    """Starts the command in this test's folder, and makes sure that nothing of it stays."""
    started: list[Up] = []

    def begin(**options: object) -> Up:
        ports = {"api_port": free_port(), "agent_port": free_port()}
        up = Up(data_dir, **{**ports, **options})  # type: ignore[arg-type]  # ports and environment by name
        started.append(up)
        return up

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


async def fetch_number(url: str | None, sql: str) -> object:
    assert url is not None
    connection = await asyncpg.connect(Database.dsn(url), timeout=30)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_it_starts_says_what_to_try_stops_and_finds_its_data_again(
    start: Callable[..., Up], data_dir: Path
) -> None:
    first = start()
    first.wait_until_ready()
    assert f"http://127.0.0.1:{first.api_port}" in first.output
    tried = shlex.split(first.lines[-1])
    assert tried[1:] == [
        *("check", "--api-url", f"http://127.0.0.1:{first.api_port}"),
        *("--agent-url", f"http://127.0.0.1:{first.agent_port}"),
    ]
    kept = first.settings()
    assert (data_dir / "embedded.env").stat().st_mode & 0o077 == 0
    assert (data_dir / "credentials.json").stat().st_mode & 0o077 == 0
    await fetch_number(kept["COLLOQUY_MIGRATION_DATABASE_URL"], "CREATE TABLE chat.kept AS SELECT 7 AS number")
    with redis.Redis.from_url(str(kept["COLLOQUY_REDIS_URL"])) as client:
        client.set("number", 8)
    everything = [psutil.Process(first.process.pid), *first.children()]

    assert first.end(signal.SIGINT) == 0
    assert first.lines[-1] == "stopped"
    assert "Traceback" not in first.output
    assert alive(everything) == []
    assert {name for name in first.settings() if name.endswith("_URL")} == set()

    second = start(STAND_IN_VERBOSE="1")
    second.wait_until_ready()
    second.wait_for("api      | request")
    second.wait_for("postgres | ")
    assert not any(line.startswith("api ") for line in first.lines), "logs are shown when they are asked for"
    again = second.settings()
    assert again["COLLOQUY_SECRET_KEY"] == kept["COLLOQUY_SECRET_KEY"]
    assert again["COLLOQUY_SERVICE_KEY"] == kept["COLLOQUY_SERVICE_KEY"]
    assert await fetch_number(again["COLLOQUY_DATABASE_URL"], "SELECT number FROM chat.kept") == 7
    with redis.Redis.from_url(str(again["COLLOQUY_REDIS_URL"])) as client:
        assert client.get("number") == b"8"
    assert second.end(signal.SIGTERM) == 0
    assert entries(data_dir) == [
        *(
            "credentials.json",
            "embedded.env",
            "logs",
            "migrated",
            "postgres",
            "postgres.lock",
            "up.lock",
            "valkey",
            "valkey.lock",
        )
    ]


def test_a_second_one_on_the_same_folder_says_so(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    first = start(**own_stores)
    first.wait_until_ready()
    second = start(**own_stores)
    assert second.wait() == 1
    assert second.lines == [f"Error: Colloquy already runs on {first.data_dir} (process {first.process.pid})"]


async def test_what_is_killed_comes_back_at_the_same_address(start: Callable[..., Up]) -> None:
    up = start()
    up.wait_until_ready()
    settings = up.settings()

    def parts() -> dict[str, int]:
        return {
            "postgres": up.child("bin/postgres").pid,
            "valkey": up.child("valkey-server").pid,
            "api": up.child("serve", str(up.api_port)).pid,
            "agent": up.child("serve", str(up.agent_port)).pid,
            "worker": up.child("wait").pid,
        }

    before = parts()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def all_back() -> bool:
        try:
            now = parts()
        except (LookupError, psutil.Error):
            return False
        return all(now[name] != before[name] for name in before)

    until(all_back, lambda: up.output)
    up.wait_for("postgres ended (SIGKILL); starting postgres again in 0.2 s")

    async def answers() -> bool:
        try:
            return await fetch_number(settings["COLLOQUY_DATABASE_URL"], "SELECT 1") == 1
        except (OSError, asyncpg.PostgresError):
            return False

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await answers():
        assert time.monotonic() < deadline, up.output
    with redis.Redis.from_url(str(settings["COLLOQUY_REDIS_URL"])) as client:
        until(lambda: _pings(client))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something: where nothing reaps orphans, they stay as zombies."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells children that their parent died")
def test_after_kill_9_nothing_stays_and_the_next_one_starts(start: Callable[..., Up]) -> None:
    up = start()
    up.wait_until_ready()
    children = up.children()
    assert len(children) > 5
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    again = start(api_port=up.api_port, agent_port=up.agent_port)
    again.wait_until_ready()
    until(lambda: alive(children) == [], lambda: str(alive(children)))
    assert again.end() == 0


def test_a_service_that_cannot_start_stops_everything(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    up = start(STAND_IN_WORKER="crash", **own_stores)
    assert up.wait() == 1
    log = up.data_dir / "logs" / "worker.log"
    assert up.lines[-1] == f"Error: worker failed 5 times in a row: worker ended (exit code 3); see {log}"
    assert log.read_text().count("no luck") == 5
    assert up.output.count("starting worker again in") == 4
    assert "Traceback" not in up.output


def test_migrations_that_fail_stop_everything(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    up = start(STAND_IN_MIGRATION="import sys; sys.exit('the tables are locked')", **own_stores)
    assert up.wait() == 1
    assert len(up.lines) == 1
    assert up.lines[0].startswith("Error: the migrations failed: the tables are locked (see ")


def test_it_can_be_stopped_while_it_starts(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    waiting = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    up = start(STAND_IN_MIGRATION=waiting, **own_stores)
    until((up.data_dir / "logs" / "migrate.log").exists)
    up.process.send_signal(signal.SIGTERM)
    (up.data_dir / "go").touch()
    assert up.wait() == 0
    assert up.lines == ["stopping …", "stopped"]


def test_a_service_that_does_not_stop_is_killed_in_time(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    up = start(STAND_IN_WORKER="stubborn", COLLOQUY_SHUTDOWN_SECONDS="0.5", **own_stores)
    up.wait_until_ready()
    children = up.children()
    assert up.end() == 0  # within our patience, while it would stay for ten minutes
    assert alive(children) == []


def test_own_servers_are_used_and_none_is_started(start: Callable[..., Up], own_stores: dict[str, str]) -> None:
    up = start(**own_stores)
    up.wait_until_ready()
    assert not (up.data_dir / "postgres").exists()
    assert not (up.data_dir / "valkey").exists()
    assert {name for name in up.settings() if name.endswith("_URL")} == set()
    for url in own_stores.values():
        assert url.split(":")[2].split("@")[0] not in up.output


@pytest.fixture
def refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls `up` in this process, for what it refuses before it starts anything; the line that it says."""
    nothing = Commands(agent=("false",), api=("false",), worker=("false",), migrate=("false",))

    def call(**environment: str) -> str:
        ports = {"COLLOQUY_API_PORT": str(free_port()), "COLLOQUY_AGENT_PORT": str(free_port())}
        for name, value in {"COLLOQUY_DATA_DIR": str(data_dir), **ports, **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(CannotStart) as raised:
            run_everything(commands=nothing)
        assert capsys.readouterr().out == ""
        assert entries(data_dir) == ["credentials.json", "embedded.env", "up.lock"]
        line = str(raised.value)
        assert "\n" not in line
        return line

    return call


@pytest.mark.parametrize(
    ("variable", "url", "said"),
    [
        (
            "COLLOQUY_DATABASE_URL",
            "postgresql+asyncpg://someone:hidden@127.0.0.1:{port}/chat",
            "COLLOQUY_DATABASE_URL: PostgreSQL at 127.0.0.1:{port}/chat does not answer (ConnectionRefusedError)",
        ),
        (
            "COLLOQUY_REDIS_URL",
            "redis://:hidden@127.0.0.1:{port}/0",
            "COLLOQUY_REDIS_URL: Redis at 127.0.0.1:{port}/0 does not answer (ConnectionError)",
        ),
        (
            "COLLOQUY_DATABASE_URL",
            "nonsense",
            "COLLOQUY_DATABASE_URL is not of the form postgresql://user:password@host:5432/database",
        ),
    ],
)
def test_an_own_server_that_does_not_answer(refused: Callable[..., str], variable: str, url: str, said: str) -> None:
    port = free_port()
    told = refused(**{variable: url.format(port=port)})
    assert told.startswith(said.format(port=port))
    assert "hidden" not in told


def test_a_wrong_password_is_told_without_it(refused: Callable[..., str], database: Database) -> None:
    told = refused(COLLOQUY_DATABASE_URL=database.api_url.replace("colloquy_api:", "colloquy_api:hidden"))
    assert "does not let us in (InvalidPasswordError)" in told
    assert "hidden" not in told


@pytest.mark.parametrize("variable", ["COLLOQUY_API_PORT", "COLLOQUY_AGENT_PORT"])
def test_a_port_that_is_taken(refused: Callable[..., str], variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        told = refused(**{variable: str(port)})
    assert told == f"port {port} on 127.0.0.1 is taken: free it, or set {variable} to another"
