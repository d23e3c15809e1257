"""Alembic with this project's history and no ini file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

import click
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError

from chat_api.cli.databases import told_plainly

HISTORY = Path(__file__).resolve().parents[2] / "migrations"

Parameters = ParamSpec("Parameters")

_LOCK_NOT_AVAILABLE = "55P03"
_ATTEMPTS = 5
_PAUSE_SECONDS = 1.0


def configuration(url: str | None = None, history: Path = HISTORY) -> Config:
    """`url` is the owner role's; migrations/env.py takes it from the attributes."""
    config = Config(stdout=sys.stdout)  # as it is now; Alembic's default is what it was when Alembic was imported
    # Through the attribute of its own, a per cent sign in the folder's name would be taken for interpolation.
    config.set_main_option("script_location", str(history).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Go up. A statement that did not get its lock in time gave way to live traffic: it is tried again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            command.upgrade(configuration(url), revision)
        except DBAPIError as error:
            if attempt == _ATTEMPTS or getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            click.echo(f"a lock was not free in time; attempt {attempt + 1} of {_ATTEMPTS}", err=True)
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def downgrade(url: str, revision: str) -> None:
    command.downgrade(configuration(url), revision)


def current(url: str) -> None:
    command.current(configuration(url))


def history() -> None:
    """Reads the files only; no database is needed."""
    command.history(configuration())


def revise(url: str, message: str, autogenerate: bool, history: Path = HISTORY) -> None:
    config = configuration(url, history)
    config.attributes["compares"] = autogenerate
    command.revision(config, message, autogenerate=autogenerate)


def run(
    step: Callable[Concatenate[str, Parameters], None], url: str, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> None:
    """Run one of the above; what the database or Alembic has against it becomes one line."""
    try:
        told_plainly(step)(url, *args, **kwargs)
    except CommandError as error:
        raise click.ClickException(str(error).partition("\n")[0]) from None
