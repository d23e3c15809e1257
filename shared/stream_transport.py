"""HTTP/1.1 for httpx, made for many long streams from few hosts.

httpx's own transport spends 36 µs and several layers on each piece of a stream, and its pool looks at every
connection for every request. This one parses in C, hands over all that has arrived at once, and keeps idle
connections on a stack. It knows no proxies and no HTTP/2.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast
from urllib.request import getproxies, proxy_bypass

import httptools
import httpx

_PAUSE_AT_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 64 * 1024


def needs_proxy(url: httpx.URL) -> bool:
    """Whether the environment (`HTTPS_PROXY`, `NO_PROXY` …) sends this address through a proxy."""
    proxies = getproxies()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not proxy_bypass(url.host)


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._held = 0
        self._header_bytes = 0
        self._paused = False
        self._exchanging = False
        self._headers_done = False
        self._complete = False
        self._reusable = False
        self._error: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        return self._complete and self._reusable and self.is_usable

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if not self._exchanging or self._complete:
            self._fail(httpx.RemoteProtocolError("The server speaks out of turn."))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(httpx.RemoteProtocolError("The server's answer is not HTTP."))
            return
        if self._held > _PAUSE_AT_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        # An answer of no stated length ends with its connection; any other is cut by that.
        if self._headers_done and not self._complete and error is None and self._ends_with_connection():
            self._complete = True
            self._wake()
        elif self._error is None:
            self._fail(httpx.ReadError("The connection broke."))

    # What the parser calls.

    def on_status(self, status: bytes) -> None:
        self._count_header(len(status))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = []  # an interim answer; the real one follows
            return
        self._reusable = self._parser.should_keep_alive()
        self._headers_done = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if self._headers_done:
            self._complete = True

    # What the transport below calls.

    async def exchange(self, request: httpx.Request, silence_seconds: float | None) -> None:
        """Send the request and wait for the answer's headers. Raises `httpx.TransportError`.

        From here to the end of the answer, `httpx.ReadTimeout` is raised when nothing comes for so long.
        """
        self._parser = httptools.HttpResponseParser(self)
        self.headers, self._body, self._held, self._header_bytes = [], [], 0, 0
        self._headers_done = self._complete = self._reusable = False
        self._exchanging = True
        head = [request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in request.headers.raw]
        assert self._transport is not None
        self._transport.write(b"".join([*head, b"\r\n", await request.aread()]))
        self._watch(silence_seconds)
        while not self._headers_done:
            await self._wait()

    async def read(self) -> bytes:
        """All that has arrived and was not read, else what comes next; empty at the end.

        Raises `httpx.TransportError`.
        """
        while not self._body:
            if self._complete:
                return b""
            await self._wait()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def rest(self) -> None:
        """Between exchanges: whatever comes now is out of turn."""
        self._exchanging = False
        self.idle_since = self._loop.time()
        self._watch(None)

    def abort(self) -> None:
        self._watch(None)
        if self._transport is not None:
            self._transport.abort()

    def _watch(self, seconds: float | None) -> None:
        """One timer for the whole answer, set again only when it fires: a timer per piece costs more than the piece."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if seconds is not None:
            self._heard_at = self._loop.time()
            self._watchdog = self._loop.call_later(seconds, self._check_silence, seconds)

    def _check_silence(self, seconds: float) -> None:
        self._watchdog = None
        if self._complete:
            return
        # While we do not read, the silence is ours.
        left = seconds if self._paused else self._heard_at + seconds - self._loop.time()
        if left <= 0:
            self._fail(httpx.ReadTimeout("Nothing came for too long."))
        else:
            self._watchdog = self._loop.call_later(left, self._check_silence, seconds)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        self._error = error
        self.abort()
        self._wake()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise httptools.HttpParserError("headers too large")

    def _ends_with_connection(self) -> bool:
        names = {name.lower() for name, _ in self.headers}
        return not names & {b"content-length", b"transfer-encoding"}


class _Body(httpx.AsyncByteStream):
    def __init__(self, connection: _Connection, transport: StreamTransport, origin: tuple[str, str, int]) -> None:
        self._connection = connection
        self._transport = transport
        self._origin = origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._connection.read():
            yield data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.release(self._connection, self._origin)


class StreamTransport(httpx.AsyncBaseTransport):
    """An httpx transport. `connect_seconds` covers the name, the connection and TLS.

    `silence_seconds` is the longest time without a byte once the request is sent; None leaves that to the caller.
    """

    def __init__(
        self,
        *,
        connect_seconds: float,
        silence_seconds: float | None = None,
        idle_seconds: float = 30.0,
        idle_connections: int = 64,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._idle_seconds = idle_seconds
        self._idle_connections = idle_connections
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        connection = self._reuse(origin) or await self._connect(origin)
        try:
            await connection.exchange(request, self._silence_seconds)
        except BaseException:
            connection.abort()
            raise
        return httpx.Response(
            connection.status, headers=connection.headers, stream=_Body(connection, self, origin), request=request
        )

    def release(self, connection: _Connection, origin: tuple[str, str, int]) -> None:
        """Keep the connection for the next call, or close it where its answer was not read to the end."""
        idle = self._idle.setdefault(origin, [])
        if connection.is_reusable and len(idle) < self._idle_connections:
            connection.rest()
            idle.append(connection)
        else:
            connection.abort()

    async def aclose(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()

    def _reuse(self, origin: tuple[str, str, int]) -> _Connection | None:
        idle = self._idle.get(origin, [])
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the youngest: the others grow old and go
            if connection.is_usable and now - connection.idle_since < self._idle_seconds:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: tuple[str, str, int]) -> _Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                tls = await self._tls_context() if scheme == "https" else None
                _, connection = await loop.create_connection(_Connection, host, port, ssl=tls)
        except TimeoutError:
            raise httpx.ConnectTimeout("The connection took too long.") from None
        except (OSError, ssl.SSLError) as error:
            raise httpx.ConnectError(type(error).__name__) from None
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading all root certificates takes tens of milliseconds.
            context = await asyncio.to_thread(httpx.create_ssl_context)
            with suppress(NotImplementedError):
                context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls
