"""Failures of a database, told to a person as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import asyncpg
import click
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def told_plainly(call: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wrap `call` so that what PostgreSQL or the network says against it ends the command with that line."""

    def tell(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except DBAPIError as error:
            raise click.ClickException(f"the database says: {_first_line(error.orig)}") from None
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise click.ClickException(f"the database says: {_first_line(error)}") from None
        except OSError as error:
            raise click.ClickException(f"the database does not answer ({type(error).__name__})") from None

    return tell


@told_plainly
def run_against_database(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
