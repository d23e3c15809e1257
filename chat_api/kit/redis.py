"""Clients for Redis or Valkey. It only ever holds hints, so nothing waits for it for long."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

from chat_api.config import ApiSettings

_CONNECT_SECONDS = 1.0
_COMMAND_SECONDS = 0.5
_BLOCKED_READERS = 500
_BLOCKED_SECONDS = 2.0


class RedisClients:
    """`commands` answers fast or fails; `blocking` waits on streams, with a connection for each reader."""

    def __init__(self, url: str) -> None:
        self.commands = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=8,
                timeout=_COMMAND_SECONDS,
                socket_connect_timeout=_CONNECT_SECONDS,
                socket_timeout=_COMMAND_SECONDS,
            )
        )
        self.blocking = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=_BLOCKED_READERS,
                timeout=_COMMAND_SECONDS,
                socket_connect_timeout=_CONNECT_SECONDS,
                # Longer than any read blocks: a server that hangs must not hold its readers.
                socket_timeout=_BLOCKED_SECONDS,
            )
        )

    @classmethod
    def from_settings(cls, settings: ApiSettings) -> RedisClients | None:
        return None if settings.redis_url is None else cls(settings.redis_url.get_secret_value())

    async def ping(self) -> None:
        await self.commands.ping()

    async def close(self) -> None:
        await self.commands.aclose()
        await self.blocking.aclose()
        await self.commands.connection_pool.disconnect()
        await self.blocking.connection_pool.disconnect()
