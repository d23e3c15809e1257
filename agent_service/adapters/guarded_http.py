"""HTTP to the public internet, and nowhere else.

`Host`, the name in the TLS handshake and the name that the certificate has to bear stay those of the URL. Nothing is
taken from the environment: no proxy, no credentials, and no cookie is kept.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager

import httpcore
import httpx

from agent_service.ports.tools import ToolFailed
from shared.logging import get_logger
from shared.web.addresses import AddressRefused, WebAddress
from shared.web.guarded_network import AddressGuard, Dialer, GuardedNetwork, TcpDialer

log = get_logger("fetch")

_MOST_PIECES = 20_000
"""Chunks of an answer. A page of two megabytes has a few hundred of them."""
_HEADERS = (
    ("User-Agent", "Colloquy/0.1 (fetch_url)"),
    ("Accept", "text/html, application/xhtml+xml, text/plain, application/json, application/xml;q=0.9, text/*;q=0.8"),
    # What else a server packs with is refused: only this can be unpacked a little at a time.
    ("Accept-Encoding", "gzip"),
    ("Connection", "close"),
)


class GuardedHttp:
    """A `WebClient`. `tls` makes the context by which certificates are checked; it is called once, in a thread."""

    def __init__(
        self,
        guard: AddressGuard,
        dialer: Dialer | None = None,
        *,
        tls: Callable[[], ssl.SSLContext] = httpx.create_ssl_context,
    ) -> None:
        self._network = GuardedNetwork(guard, dialer or TcpDialer())
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def open(self, address: WebAddress) -> AsyncGenerator[_Reply]:
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=address.target.encode(),
        )
        tls = await self._tls_context() if address.scheme == "https" else None
        # A pool for each request: nothing of one is left to the next.
        try:
            async with (
                httpcore.AsyncConnectionPool(
                    ssl_context=tls, max_connections=1, max_keepalive_connections=0, network_backend=self._network
                ) as pool,
                pool.stream("GET", url, headers=[("Host", address.authority), *_HEADERS]) as response,
            ):
                yield _Reply(response)
        except AddressRefused as refusal:
            raise ToolFailed(str(refusal), retryable=refusal.retryable) from None
        except httpcore.ConnectError as error:
            raise _not_reached(error) from None
        except httpcore.TimeoutException:
            raise ToolFailed("The host does not answer.", retryable=True) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            log.info("fetch.broken", error=type(error).__name__)
            raise ToolFailed("The host broke off, or does not speak HTTP.", retryable=True) from None

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading all root certificates takes tens of milliseconds.
            self._tls = await asyncio.to_thread(self._make_tls)
        return self._tls


def _not_reached(error: httpcore.ConnectError) -> ToolFailed:
    if any(isinstance(cause, ssl.SSLError) for cause in (error.__cause__, error.__context__)):
        return ToolFailed("The host's certificate is not valid for its name, or TLS fails otherwise.")
    return ToolFailed("The host cannot be reached.", retryable=True)


class _Reply:
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode()
        for key, value in self._response.headers:
            if key.lower() == wanted:
                return value.decode("utf-8", "replace")
        return None

    async def read(self, max_bytes: int) -> tuple[bytes, bool]:
        assert isinstance(self._response.stream, AsyncIterable)
        packing = (self.header("Content-Encoding") or "identity").strip().lower()
        match packing:
            case "identity" | "":
                unpack: Callable[[bytes, int], bytes] = _as_it_is
            case "gzip" | "x-gzip":
                unpack = _Gunzip()
            case _:
                raise ToolFailed("The answer is packed in a way that cannot be read here.")
        body = bytearray()
        pieces = taken = 0
        async for piece in self._response.stream:
            pieces, taken = pieces + 1, taken + len(piece)
            # One byte more than wanted tells that there is more.
            body += unpack(piece, max_bytes + 1 - len(body))
            # Packed, it may go on for ever without a byte of text.
            if len(body) > max_bytes or taken > max_bytes or pieces > _MOST_PIECES:
                return bytes(body[:max_bytes]), True
        return bytes(body), False


def _as_it_is(piece: bytes, room: int) -> bytes:
    return piece[:room]


class _Gunzip:
    """Unpacks no more than there is room for, however much a piece would make."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def __call__(self, piece: bytes, room: int) -> bytes:
        made = bytearray()
        try:
            while piece and len(made) < room:
                made += self._member.decompress(piece, room - len(made))
                if not self._member.eof:
                    # What is left did not fit: the reader stops.
                    break
                piece = self._member.unused_data.lstrip(b"\x00")
                self._member = zlib.decompressobj(wbits=31)
        except zlib.error:
            raise ToolFailed("The answer is packed wrongly.") from None
        return bytes(made)
