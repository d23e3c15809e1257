"""Which errors mean that PostgreSQL is away, and which that we made a mistake."""

from __future__ import annotations

import socket

import asyncpg
import pytest
from sqlalchemy import exc as sa_exc

from chat_api.config import ApiSettings
from chat_api.kit.db import Database, is_store_down
from shared.settings import Environment, SettingsError


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        TimeoutError(),
        socket.gaierror(-2, "Name or service not known"),
        OSError("Multiple exceptions: refused on ::1, refused on 127.0.0.1"),
        OSError(113, "No route to host"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.AdminShutdownError("bye"),
        asyncpg.CrashShutdownError("bye"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle"),
        asyncpg.InterfaceError("pool is closing"),
        sa_exc.TimeoutError("QueuePool limit"),
        sa_exc.OperationalError("SELECT", {}, Exception()),
        sa_exc.DBAPIError("SELECT", {}, Exception(), connection_invalidated=True),
    ],
)
def test_a_store_that_is_away(error: BaseException) -> None:
    assert is_store_down(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ours"),
        asyncpg.UniqueViolationError("duplicate"),
        asyncpg.PostgresSyntaxError("SELEKT"),
        asyncpg.UndefinedTableError("no table"),
        sa_exc.IntegrityError("INSERT", {}, Exception()),
        sa_exc.ProgrammingError("SELEKT", {}, Exception()),
        sa_exc.DBAPIError("SELECT", {}, Exception()),
    ],
)
def test_a_mistake_of_ours(error: BaseException) -> None:
    assert not is_store_down(error)


async def test_without_an_address_it_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match="COLLOQUY_DATABASE_URL is not set"):
        await Database.open(ApiSettings(environment=Environment.TEST))
