"""The database and pages as routes take them. Apart from both: commands and services need them without FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Query, Request
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from chat_api.kit.db import STORE_DOWN, Database, is_store_down
from shared.logging import get_logger, request_id_var
from shared.problems import NotAuthenticated, ServiceUnavailable
from shared.web.responses import problem_response

log = get_logger("db")

Limit = Annotated[int, Query(ge=1, le=100, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")]


async def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def open_db(database: Annotated[Database, Depends(get_database)]) -> AsyncIterator[AsyncSession]:
    async with database.unit() as session:
        yield session


Db = Annotated[AsyncSession, Depends(open_db, scope="function")]
"""The request's unit of work. It commits after the answer is built and before it is sent."""

Statements = Annotated[Database, Depends(get_database)]
"""For routes that are one statement, or that must not hold a connection while they wait."""


def _writes_for_nobody(error: Exception) -> bool:
    """Whether a row names a person who is not there: a token may outlive its account by a moment."""
    cause = getattr(error.orig, "__cause__", None) if isinstance(error, sa_exc.DBAPIError) else error
    return isinstance(cause, asyncpg.ForeignKeyViolationError) and str(cause.constraint_name).endswith("_users")


async def _on_store_error(request: Request, error: Exception) -> Response:
    if _writes_for_nobody(error):
        return problem_response(NotAuthenticated("The account is closed."), request_id_var.get())
    if not is_store_down(error):
        raise error
    log.warning("db.unavailable", error=type(error).__name__)
    return problem_response(ServiceUnavailable(), request_id_var.get())


def install_store_handlers(app: FastAPI) -> None:
    for kind in (*STORE_DOWN, sa_exc.DBAPIError, asyncpg.ForeignKeyViolationError):
        app.add_exception_handler(kind, _on_store_error)
