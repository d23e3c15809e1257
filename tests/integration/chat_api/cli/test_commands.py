"""The command as a person calls it: what it does, and one clear line where it cannot."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from chat_api.cli.main import main
from deploy.local.ports import free_port
from tests.stores import Database

pytestmark = pytest.mark.timeout(240)


def colloquy(
    *arguments: str, folder: Path, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for what only that shows: that it starts, what it loads, what it asks for."""
    return subprocess.run(
        [sys.executable, "-m", "chat_api", *arguments],
        env={**os.environ, "COLLOQUY_DATA_DIR": str(folder), **environment},
        cwd=folder,
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Said]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls it in this process, which has loaded what a new one would load for seconds of its own."""

    def call(*arguments: str, **environment: str) -> Said:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["colloquy", *arguments])
        for name, value in {"COLLOQUY_DATA_DIR": str(tmp_path), **environment}.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            said = capsys.readouterr()
            return Said(end.code if isinstance(end.code, int) else 0, said.out, said.err)
        raise AssertionError("a command ends with an exit code")

    return call


def test_help_lists_the_commands(tmp_path: Path) -> None:
    done = colloquy("--help", folder=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    for name in ("up", "api", "agent", "worker", "migrate", "check", "openapi", "users", "seed", "backup", "restore"):
        assert f"\n  {name} " in done.stdout
    assert not imported(done.stderr) & {"alembic", "asyncpg", "fastapi", "pydantic", "sqlalchemy", "structlog"}


def imported(times: str) -> set[str]:
    """The packages that a process loaded which was told to print the times of its imports."""
    found = {line.rpartition("|")[2].strip().partition(".")[0] for line in times.splitlines() if "|" in line}
    assert "click" in found
    return found


def test_migrations_go_up_down_and_say_where_they_are(command: Command, new_database: Callable[..., Database]) -> None:
    url = {"COLLOQUY_MIGRATION_DATABASE_URL": new_database().owner_url}
    newest = command("migrate", "current", **url).stdout
    assert "(head)" in newest
    down = command("migrate", "downgrade", "-1", **url)
    assert down.returncode == 0, down.stderr
    before = command("migrate", "current", **url).stdout
    assert re.match(r"\d{4}\n", before)
    assert command("migrate", "upgrade", **url).returncode == 0
    assert command("migrate", "current", **url).stdout == newest
    history = command("migrate", "history").stdout
    assert f"{before.strip()} -> {newest.strip()}" in history
    assert "<base> -> 0001" in history


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["migrate", "upgrade"], {}, "Error: there is no database to migrate"),
        (
            ["migrate", "upgrade"],
            {"COLLOQUY_MIGRATION_DATABASE_URL": "postgresql://x:hidden@127.0.0.1:{port}/y"},
            "Error: the database does not answer (ConnectionRefusedError)",
        ),
        (["check", "--api-url", "http://127.0.0.1:{port}"], {}, "FAILED chat API is ready: ConnectError"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(
    command: Command, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    port = str(free_port())
    done = command(
        *(argument.format(port=port) for argument in arguments),
        **{name: value.format(port=port) for name, value in environment.items()},
    )
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert output.startswith(said)
    assert "Traceback" not in output
    assert "hidden" not in output


def test_an_unknown_revision_is_told_in_a_line(command: Command, new_database: Callable[..., Database]) -> None:
    url = {"COLLOQUY_MIGRATION_DATABASE_URL": new_database(migrated=False).owner_url}
    done = command("migrate", "upgrade", "9999", **url)
    assert done.returncode == 1
    assert done.stderr == "Error: Can't locate revision identified by '9999'\n"


ADMINISTRATOR = ("users", "create-admin", "--email", "root@example.com", "--username", "chief")


@pytest.mark.parametrize(
    "arguments",
    [["api"], ["worker"], ["migrate", "current"], [*ADMINISTRATOR, "--password", "a-long-password-1"], ["check"]],
    ids=" ".join,
)
def test_settings_that_cannot_work_exit_with_2(command: Command, arguments: list[str]) -> None:
    done = command(*arguments, COLLOQUY_API_PORT="0", COLLOQUY_SECRET_KEY="short")
    assert done.returncode == 2
    assert "COLLOQUY_API_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_the_api_that_is_taken_is_told_in_a_line(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = command("api", COLLOQUY_API_PORT=str(listener.getsockname()[1]))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_port_of_the_agent_that_is_taken_is_told_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = colloquy("agent", folder=tmp_path, COLLOQUY_AGENT_PORT=str(listener.getsockname()[1]))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


async def test_an_administrator_is_created_once(tmp_path: Path, command: Command, clean_database: Database) -> None:
    settings = {"COLLOQUY_DATABASE_URL": clean_database.api_url}
    typed = "a-long-password-1\na-long-password-1\n"
    first = colloquy(*ADMINISTRATOR, folder=tmp_path, stdin=typed, PYTHONPROFILEIMPORTTIME="1", **settings)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "chief may administer now"
    assert not imported(first.stderr) & {"alembic", "fastapi"}, "whoever types a command waits for what it loads"
    second = await asyncio.to_thread(command, *ADMINISTRATOR, "--password", "a-long-password-1", **settings)
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    connection = await asyncpg.connect(Database.dsn(clean_database.owner_url))
    try:
        assert await connection.fetchval("SELECT is_admin FROM chat.users WHERE username = 'chief'")
    finally:
        await connection.close()
