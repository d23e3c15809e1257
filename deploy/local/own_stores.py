"""Stores that a person runs themselves: do they answer?"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import redis

from deploy.local.errors import CannotStart

_SECONDS = 5.0
_OLDEST_POSTGRES = 17


def check_postgres(variable: str, url: str) -> None:
    """Log in once. Raises `CannotStart` with the variable's name, never with the password."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.startswith("postgres"):
        raise CannotStart(f"{variable} is not of the form postgresql://user:password@host:5432/database")
    dsn = f"postgresql://{rest}"

    async def version() -> int:
        connection = await asyncpg.connect(dsn, timeout=_SECONDS)
        try:
            major: int = connection.get_server_version().major
            return major
        finally:
            await connection.close(timeout=_SECONDS)

    try:
        major = asyncio.run(version())
    except (OSError, TimeoutError) as error:
        raise CannotStart(f"{variable}: PostgreSQL at {_place(url)} does not answer ({_kind(error)})") from None
    except (ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotStart(f"{variable}: PostgreSQL at {_place(url)} does not let us in ({_kind(error)})") from None
    if major < _OLDEST_POSTGRES:
        raise CannotStart(f"{variable}: PostgreSQL at {_place(url)} is version {major}; {_OLDEST_POSTGRES} is needed")


def check_redis(variable: str, url: str) -> None:
    """Ping once. Raises `CannotStart` with the variable's name, never with the password."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise CannotStart(f"{variable}: Redis at {_place(url)} does not answer ({_kind(error)})") from None


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or "the default address"
        return f"{host}:{parts.port}{parts.path}" if parts.port else f"{host}{parts.path}"
    except ValueError:
        return "an address that cannot be read"


def _kind(error: BaseException) -> str:
    """The kind only: an error's text may repeat the address with its password."""
    return type(error).__name__
