"""The database: units of work for most things, single statements for the hot paths.

Two doors, for a measured reason (`docs/adr/0003`): SQLAlchemy costs about 0.4 ms a statement, which is
nothing for a rename and most of the budget of an append. A hot path is one SQL statement that checks,
writes and builds its JSON; it goes to PostgreSQL through asyncpg alone, in a transaction of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from chat_api.config import ApiSettings
from chat_api.kit.address import dsn
from shared.settings import SettingsError

SERVER_SETTINGS = {
    "application_name": "colloquy",
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "10000",
    "statement_timeout": "15000",
    "lock_timeout": "10000",
    "jit": "off",
}
_AFTER_COMMIT = "after_commit"
_CONNECT_TIMEOUT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0

STORE_DOWN = (
    sa_exc.InterfaceError,
    sa_exc.OperationalError,
    sa_exc.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A connection that breaks in the middle of a statement may show as a state that asyncpg did not expect.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    # Not ConnectionError alone: a name that does not resolve, no route, or several addresses that all refuse
    # come as other kinds. Nothing else that a request does reads files.
    OSError,
)
"""What the drivers raise when PostgreSQL is away, starting, full or too slow."""


def is_store_down(error: BaseException) -> bool:
    """Whether an error means that PostgreSQL did not do what it was asked, and may if asked again."""
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, sa_exc.DBAPIError):
        cause = getattr(error.orig, "__cause__", None)
        return isinstance(error, STORE_DOWN) or isinstance(cause, STORE_DOWN)
    return isinstance(error, STORE_DOWN)


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    # `json` results are handed to the client as they are: bytes in, bytes out, never parsed here.
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=lambda value: value, decoder=bytes, format="binary"
    )
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_dumps, decoder=orjson.loads, format="text")


async def _keep_as_is(_: asyncpg.Connection) -> None:
    """Single statements leave nothing behind to reset, which saves a round trip a request."""


def after_commit(session: AsyncSession, call: Callable[[], None]) -> None:
    """Have something done once the unit of work is committed, and not at all if it is rolled back.

    It must not block and must not raise: what it speaks of is done.
    """
    session.info.setdefault(_AFTER_COMMIT, []).append(call)


async def _commit_and_close(session: AsyncSession) -> None:
    try:
        await session.commit()
    finally:
        await session.close()
    for call in session.info.pop(_AFTER_COMMIT, ()):
        call()


def _refuse_closed(connection: Any, _: object, __: object) -> None:
    """After a restart of PostgreSQL the pool is full of connections that are known to be closed: no ping needed."""
    if connection.driver_connection.is_closed():
        raise sa_exc.DisconnectionError


class StatementPool:
    """Connections for single statements, each in a transaction of its own. Whoever comes first is served first."""

    def __init__(self, pool: asyncpg.Pool, wait_seconds: float) -> None:
        self._pool = pool
        self._wait_seconds = wait_seconds
        self._turns = asyncio.Semaphore(pool.get_max_size())

    @classmethod
    async def open(cls, address: str, size: int, *, wait_seconds: float) -> StatementPool:
        return cls(
            await asyncpg.create_pool(
                address,
                # No connection is made here: a process must be able to start before its database does.
                min_size=0,
                max_size=size,
                timeout=_CONNECT_TIMEOUT_SECONDS,
                command_timeout=15,
                server_settings=SERVER_SETTINGS,
                init=_prepare_connection,
                reset=_keep_as_is,
            ),
            wait_seconds,
        )

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def in_use(self) -> int:
        busy: int = self._pool.get_size() - self._pool.get_idle_size()
        return busy

    async def run(self, method: str, statement: str, *args: Any) -> Any:
        """`method` is one of asyncpg's. Raises `TimeoutError` when no connection is free in time."""
        # The pool's own queue lets newcomers overtake those it wakes: with 100 callers some wait 20 times longer
        # than the others. A semaphore takes turns, and leaves the pool nothing to queue.
        if self._turns.locked():
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        else:
            await self._turns.acquire()
        try:
            async with self._pool.acquire() as connection:
                return await getattr(connection, method)(statement, *args)
        finally:
            self._turns.release()


class Database:
    """Owns the connections of one process. Open it in the lifespan, close it at its end."""

    def __init__(self, engine: AsyncEngine, statements: StatementPool, events: StatementPool) -> None:
        self.engine = engine
        self._statements = statements
        self._events = events
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

    @classmethod
    async def open(cls, settings: ApiSettings) -> Database:
        if settings.database_url is None:
            raise SettingsError(
                "COLLOQUY_DATABASE_URL is not set. Set it, or start everything on this machine with `colloquy up`."
            )
        wait_seconds = settings.db_pool_seconds
        address = dsn(settings.database_url.get_secret_value())

        async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
            return await asyncpg.connect(address, server_settings=SERVER_SETTINGS, timeout=_CONNECT_TIMEOUT_SECONDS)

        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=settings.db_pool_size,
            max_overflow=settings.db_max_overflow,
            pool_timeout=wait_seconds,
            pool_recycle=1800,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return cls(
            engine,
            await StatementPool.open(address, settings.db_statement_pool_size, wait_seconds=wait_seconds),
            await StatementPool.open(address, settings.db_event_pool_size, wait_seconds=wait_seconds),
        )

    async def close(self) -> None:
        await asyncio.gather(self._dispose(), self._statements.close(), self._events.close())

    async def _dispose(self) -> None:
        # A PostgreSQL that hangs must not hold up the end of the process.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.engine.dispose()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[AsyncSession]:
        """One unit of work: commits when the block ends, rolls back when it raises.

        Keep it short: never wait for a model, a stream or a socket inside. Its end is shielded, because
        a cancellation in the middle of a rollback would leak the connection.
        """
        session = self._sessions()
        try:
            yield session
        except BaseException:
            await asyncio.shield(session.close())
            raise
        # One shielded step: closing must not start while a commit whose waiter was cancelled still runs.
        await asyncio.shield(_commit_and_close(session))

    async def fetch_json(self, statement: str, *args: Any) -> bytes | None:
        """Run one statement whose single column is `json`, in its own transaction; None for no row.

        Raises `ServiceUnavailable` when no connection is free within `db_pool_seconds`.
        """
        row: bytes | None = await self._statements.run("fetchval", statement, *args)
        return row

    async def fetch_row(self, statement: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement in its own transaction and return its first row."""
        row: asyncpg.Record | None = await self._statements.run("fetchrow", statement, *args)
        return row

    async def fetch_rows(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._statements.run("fetch", statement, *args)
        return rows

    async def fetch_events(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        """The same over connections of their own: what sockets wait for must not queue behind what they send."""
        rows: list[asyncpg.Record] = await self._events.run("fetch", statement, *args)
        return rows

    async def ping(self) -> str:
        """Name of the database that answered."""
        async with self.engine.connect() as connection:
            name: str = (await connection.execute(text("SELECT current_database()"))).scalar_one()
            return name

    def connections_in_use(self) -> int:
        """Connections that are checked out of all pools at this moment."""
        checked_out: int = self.engine.pool.checkedout()  # type: ignore[attr-defined]  # queue pools have it
        return checked_out + self._statements.in_use() + self._events.in_use()
