"""Connections to the agent's own schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from agent_service.adapters.pg_vectors import register_vectors
from agent_service.domain.index_problems import IndexUnavailable
from shared.logging import get_logger

log = get_logger("index.pool")

SERVER_SETTINGS = {
    "application_name": "colloquy-agent",
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "10000",
    "statement_timeout": "30000",
    "lock_timeout": "10000",
    "jit": "off",
    # A generic plan of a vector search scans what a custom one finds by index: seconds in place of milliseconds.
    "plan_cache_mode": "force_custom_plan",
    # Types and operators of pgvector live in `public`.
    "search_path": "agent, public",
    # Every statement has an index to go by, also while PostgreSQL knows nothing of the tables yet.
    "enable_seqscan": "off",
    # Recall@10 of 0.99 among 100,000 vectors. Past these, the scan goes on until it has found enough.
    "hnsw.ef_search": "150",
    "hnsw.iterative_scan": "relaxed_order",
}
_POOL_TIMEOUT_SECONDS = 2.0
# As long as a lock is waited for: that is what transactions wait for each other with.
_TRANSACTION_TIMEOUT_SECONDS = 10.0
_CONNECT_TIMEOUT_SECONDS = 5.0
_COMMAND_TIMEOUT_SECONDS = 35.0

STORE_DOWN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A connection that breaks in the middle of a statement may show as a state that asyncpg did not expect.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # Timeouts are OSErrors too, and so are names that do not resolve and addresses that refuse.
    OSError,
)
"""What asyncpg raises when PostgreSQL is away, starting, full or too slow."""


class IndexPool:
    """A pool that opens at first use: the agent answers turns without a database."""

    def __init__(self, url: str | None, *, size: int) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        # The pool's own queue lets newcomers overtake those it wakes; a semaphore takes turns.
        self._turns = asyncio.Semaphore(size)
        self._transactions = asyncio.Semaphore(size - max(1, size // 4))

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[asyncpg.Connection]:
        """A connection for one short piece of work: never wait for a model or a client while you hold it.

        Change settings by `SET LOCAL` in a transaction only: nothing resets them when the connection goes back.
        Raises `IndexUnavailable` when none is free within 2 s, and in place of what `STORE_DOWN` names.
        """
        try:
            pool = await self._open()
            async with asyncio.timeout(_POOL_TIMEOUT_SECONDS):
                await self._turns.acquire()
            try:
                async with pool.acquire() as connection:
                    yield connection
            finally:
                self._turns.release()
        except STORE_DOWN as error:
            log.warning("index.unavailable", error=type(error).__name__)
            raise IndexUnavailable from None

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[asyncpg.Connection]:
        """The same with everything in one transaction, which changes something and may wait for others that do.

        They never get all of the connections, and wait up to 10 s for one: some are always left to searches.
        """
        try:
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_SECONDS):
                await self._transactions.acquire()
        except TimeoutError:
            log.warning("index.transactions_busy")
            raise IndexUnavailable from None
        try:
            async with self.connection() as connection, connection.transaction():
                yield connection
        finally:
            self._transactions.release()

    async def probe(self) -> None:
        """Raises `IndexUnavailable` when PostgreSQL does not answer."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")

    async def aclose(self) -> None:
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(2):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _open(self) -> asyncpg.Pool:
        if self._url is None:
            raise IndexUnavailable("COLLOQUY_AGENT_DATABASE_URL is not set, so there is nowhere to keep passages.")
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    _dsn(self._url),
                    # No connection is made here: PostgreSQL may be away.
                    min_size=0,
                    max_size=self._size,
                    timeout=_CONNECT_TIMEOUT_SECONDS,
                    command_timeout=_COMMAND_TIMEOUT_SECONDS,
                    server_settings=SERVER_SETTINGS,
                    init=register_vectors,
                    reset=_keep_as_is,
                )
            return self._pool


async def _keep_as_is(_: asyncpg.Connection) -> None:
    """Nothing is left behind to reset, which saves a round trip for every search."""


def _dsn(url: str) -> str:
    """The address without SQLAlchemy's driver in its scheme."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme=parts.scheme.partition("+")[0]))
