"""PostgreSQL's own programs: `pg_dump`, `pg_restore`, `psql`. A dump needs ones that are as new as the server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

PROGRAMS = ("pg_dump", "pg_restore", "psql")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


class ToolsMissing(Exception):
    """The message says which programs are wanted, and what was found."""


@dataclass(frozen=True)
class PostgresTools:
    """The programs of one folder, all of one major version."""

    folder: Path
    major: int

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.folder / program), *arguments]


def find_tools(server_major: int, folders: Iterable[Path] | None = None) -> PostgresTools:
    """The first that are new enough: those that came with the embedded server, then those in PATH.

    Raises `ToolsMissing`.
    """
    found: list[str] = []
    for folder in folders if folders is not None else _folders():
        major = _major(folder)
        if major is not None and major >= server_major:
            return PostgresTools(folder, major)
        if major is not None:
            found.append(f"{major} in {folder}")
    raise ToolsMissing(
        f"the server is PostgreSQL {server_major}, so its {', '.join(PROGRAMS)} or newer ones are needed in PATH"
        f" (found: {', '.join(found) or 'none'})"
    )


def _folders() -> Iterator[Path]:
    from deploy.local.binaries import postgres_folder
    from deploy.local.errors import CannotStart

    with contextlib.suppress(CannotStart):  # where the embedded servers are not installed
        yield postgres_folder(None) / "bin"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if folder:
            yield Path(folder)


def _major(folder: Path) -> int | None:
    """The version that all the programs in the folder have at least; None where one is missing."""
    majors = []
    for program in PROGRAMS:
        path = shutil.which(program, path=str(folder))
        if path is None:
            return None
        try:
            said = subprocess.run(  # noqa: S603 - a program of PostgreSQL's, asked for its version
                [path, "--version"], capture_output=True, text=True, check=False, timeout=10, env=_environment()
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        version = _VERSION.search(said.stdout)
        if said.returncode != 0 or version is None:
            return None
        majors.append(int(version[1]))
    return min(majors)


def connection(address: str) -> tuple[str, Mapping[str, str]]:
    """An address without its password, and an environment that has it: arguments show in every process list."""
    parts = urlsplit(address)
    secret = {} if parts.password is None else {"PGPASSWORD": unquote(parts.password)}
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(unquote(parts.username))}@{host}" if parts.username else host
    return urlunsplit(parts._replace(netloc=netloc)), {**_environment(), **secret, "PGAPPNAME": "colloquy backup"}


def _environment() -> dict[str, str]:
    """Ours without PGHOST, PGOPTIONS and their like, which would lead the programs elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "COLLOQUY_"))}
    return {**kept, "LC_ALL": "C"}
