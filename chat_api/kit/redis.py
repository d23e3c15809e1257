"""Clients for Redis or Valkey. It only ever holds hints, so nothing waits for it for long."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

from chat_api.config import ApiSettings

_CONNECT_SECONDS = 1.0
_BLOCKED_READERS = 500
_BLOCKED_SECONDS = 1.5
"""Longer than any read blocks: a server that hangs must not hold its readers for much longer than a command."""


class RedisClients:
    """`commands` answers fast or fails; `blocking` waits on streams, with a connection for each reader."""

    def __init__(self, url: str, *, command_seconds: float) -> None:
        connect_seconds = max(_CONNECT_SECONDS, command_seconds)
        self.commands = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=8,
                timeout=command_seconds,
                socket_connect_timeout=connect_seconds,
                socket_timeout=command_seconds,
            )
        )
        self.blocking = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=_BLOCKED_READERS,
                timeout=command_seconds,
                socket_connect_timeout=connect_seconds,
                socket_timeout=_BLOCKED_SECONDS + command_seconds,
            )
        )

    @classmethod
    def from_settings(cls, settings: ApiSettings) -> RedisClients | None:
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), command_seconds=settings.redis_command_seconds)

    async def ping(self) -> None:
        await self.commands.ping()

    async def close(self) -> None:
        await self.commands.aclose()
        await self.blocking.aclose()
        await self.commands.connection_pool.disconnect()
        await self.blocking.connection_pool.disconnect()
