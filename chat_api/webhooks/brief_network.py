"""Connections that hear little: of an endpoint's answer the status is enough, and its sender is a stranger."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

_AT_ONCE = 2048
"""Parsed in a few milliseconds, whatever it is: the worker does other things too."""
_MOST_BYTES = 65_536
"""Of one answer: a status, and more headers than anybody sends."""


class BriefNetwork(httpcore.AsyncNetworkBackend):
    """Over another one. Who says more than `_MOST_BYTES` before their status is heard no further: `ReadError`."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _BriefStream(
            await self._network.connect_tcp(
                host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
            )
        )


class _BriefStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MOST_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        if self._left <= 0:
            raise httpcore.ReadError
        data = await self._stream.read(min(max_bytes, _AT_ONCE), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        return _BriefStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
