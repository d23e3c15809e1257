"""The command as a person calls it: what it does, and one clear line where it cannot."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from deploy.local.ports import free_port
from tests.stores import Database


def colloquy(
    *arguments: str, folder: Path, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat_api", *arguments],
        env={**os.environ, "COLLOQUY_DATA_DIR": str(folder), **environment},
        cwd=folder,
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_lists_the_commands(tmp_path: Path) -> None:
    done = colloquy("--help", folder=tmp_path)
    assert done.returncode == 0
    for name in ("up", "api", "agent", "worker", "migrate", "check", "openapi", "users", "seed", "backup", "restore"):
        assert f"\n  {name} " in done.stdout


def test_migrations_go_up_down_and_say_where_they_are(tmp_path: Path, new_database: Callable[..., Database]) -> None:
    url = {"COLLOQUY_MIGRATION_DATABASE_URL": new_database(migrated=False).owner_url}
    assert colloquy("migrate", "upgrade", folder=tmp_path, **url).returncode == 0
    at = colloquy("migrate", "current", folder=tmp_path, **url)
    assert "(head)" in at.stdout, at.stderr
    down = colloquy("migrate", "downgrade", "base", folder=tmp_path, **url)
    assert down.returncode == 0, down.stderr
    assert "head" not in colloquy("migrate", "current", folder=tmp_path, **url).stdout
    assert "0001" in colloquy("migrate", "history", folder=tmp_path).stdout


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
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    port = str(free_port())
    done = colloquy(
        *(argument.format(port=port) for argument in arguments),
        folder=tmp_path,
        **{name: value.format(port=port) for name, value in environment.items()},
    )
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert output.startswith(said)
    assert "Traceback" not in output
    assert "hidden" not in output


def test_an_unknown_revision_is_told_in_a_line(tmp_path: Path, new_database: Callable[..., Database]) -> None:
    url = {"COLLOQUY_MIGRATION_DATABASE_URL": new_database(migrated=False).owner_url}
    done = colloquy("migrate", "upgrade", "9999", folder=tmp_path, **url)
    assert done.returncode == 1
    assert done.stderr == "Error: Can't locate revision identified by '9999'\n"


@pytest.mark.parametrize("command", ["api", "worker", "migrate current", "users create-admin", "check"])
def test_settings_that_cannot_work_exit_with_2(tmp_path: Path, command: str) -> None:
    stdin = "a@example.com\nsomebody\npassword-12345\npassword-12345\n" if command.startswith("users") else None
    done = colloquy(*command.split(), folder=tmp_path, stdin=stdin, COLLOQUY_API_PORT="0", COLLOQUY_SECRET_KEY="short")
    assert done.returncode == 2
    assert "COLLOQUY_API_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "variable"), [("api", "COLLOQUY_API_PORT"), ("agent", "COLLOQUY_AGENT_PORT")])
def test_a_port_that_is_taken_is_told_in_a_line(tmp_path: Path, command: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = colloquy(command, folder=tmp_path, **{variable: str(listener.getsockname()[1])})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("service", ["chat_api", "agent_service"])
def test_openapi_documents(tmp_path: Path, service: str) -> None:
    done = colloquy("openapi", "--service", service, "--output", str(tmp_path / "document.json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "document.json").read_text())
    assert document["openapi"].startswith("3.")
    assert document["paths"]


async def test_an_administrator_is_created_once(tmp_path: Path, clean_database: Database) -> None:
    settings = {"COLLOQUY_DATABASE_URL": clean_database.api_url}
    arguments = ("users", "create-admin", "--email", "root@example.com", "--username", "chief")
    typed = "a-long-password-1\na-long-password-1\n"
    first = colloquy(*arguments, folder=tmp_path, stdin=typed, **settings)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "chief may administer now"
    second = colloquy(*arguments, folder=tmp_path, stdin=typed, **settings)
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    connection = await asyncpg.connect(Database.dsn(clean_database.owner_url))
    try:
        assert await connection.fetchval("SELECT is_admin FROM chat.users WHERE username = 'chief'")
    finally:
        await connection.close()
