"""The way out to the public internet, and nowhere else.

A name is resolved once. Every address that it has is checked, and the connection goes to a checked address itself: no
second look-up could give another.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from threading import Thread
from typing import Any, Protocol

import httpcore

from shared.logging import get_logger
from shared.web.addresses import PORTS, AddressRefused, IpAddress, is_inner_name, is_public, literal

log = get_logger("outbound")

_CONNECT_SECONDS = 5.0
_MOST_ADDRESSES = 4
_LOOKUPS_AT_ONCE = 8
_READ_BYTES = 8 * 1024


class Resolver(Protocol):
    async def resolve(self, host: str) -> Sequence[IpAddress]:
        """All addresses of a name; the best first. Raises `OSError`."""
        ...


class Dialer(Protocol):
    async def dial(self, address: IpAddress, port: int) -> httpcore.AsyncNetworkStream:
        """A TCP connection to just that address. Raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`."""
        ...


class SystemResolver:
    """The machine's own, in threads of its own: a slow name server keeps nothing else waiting.

    A look-up cannot be called off. Its thread is one that the process does not wait for when it ends.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

    async def resolve(self, host: str) -> Sequence[IpAddress]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        await self._places.acquire()
        # The dot at the end: names of the machine's own domains are not tried.
        try:
            Thread(target=self._look_up, args=(f"{host}.", loop, answer), name="fetch-dns", daemon=True).start()
        except RuntimeError:  # there are no more threads
            self._places.release()
            raise
        return [ip_address(address) for address in dict.fromkeys(await answer)]

    def _look_up(self, name: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]]) -> None:
        found: list[str] | Exception
        try:
            found = [str(address[0]) for *_, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
        except Exception as error:  # noqa: BLE001 - the end of a thread: raised again where it is waited for
            found = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self._answer, answer, found)

    def _answer(self, answer: asyncio.Future[list[str]], found: list[str] | Exception) -> None:
        self._places.release()
        if answer.done():
            return  # given up
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


class TcpDialer:
    """Connects, except to this machine by one of its own public addresses: behind a firewall there is none."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def dial(self, address: IpAddress, port: int) -> httpcore.AsyncNetworkStream:
        if is_public(address) and _is_own(address, port):
            raise AddressRefused("The address is this service's own.")
        return await self._network.connect_tcp(str(address), port, timeout=_CONNECT_SECONDS)


def _is_own(address: IpAddress, port: int) -> bool:
    """Whether a packet there would not leave the machine. Nothing is sent: a route is looked up."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), port))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # no route: the connection will say so


class AddressGuard:
    """Says which addresses may be connected to.

    `trusted` are pairs of address and port that are exempt, and `ports` those that are open: for tests, whose servers
    stand on free ports of loopback. There is no setting for either.
    """

    def __init__(
        self, resolver: Resolver, *, trusted: Collection[tuple[str, int]] = (), ports: Collection[int] = PORTS
    ) -> None:
        self._resolver = resolver
        self._ports = frozenset(ports)
        self._trusted = frozenset(trusted)

    async def addresses(self, host: str, port: int) -> Sequence[IpAddress]:
        """Those of the host, all of them allowed. Raises `AddressRefused`."""
        number = literal(host)
        if number is not None:
            found: Sequence[IpAddress] = [number]
        elif is_inner_name(host):
            raise _refused("inner_name")
        else:
            found = await self._resolved(host)
        # A name that has one address inside is not asked at its others either.
        for address in found:
            if (str(address), port) in self._trusted:
                continue
            if port not in self._ports:
                raise _refused("port")
            if not is_public(address):
                raise _refused("address")
        return found

    async def _resolved(self, host: str) -> Sequence[IpAddress]:
        try:
            found = await self._resolver.resolve(host)
        except socket.gaierror as error:
            raise AddressRefused("There is no host of that name.", retryable=error.errno == socket.EAI_AGAIN) from None
        except (OSError, ValueError):
            raise AddressRefused("The name of the host cannot be looked up.", retryable=True) from None
        if not found:
            raise AddressRefused("There is no host of that name.")
        return found


def _refused(reason: str) -> AddressRefused:
    log.warning("fetch.refused", reason=reason)
    # The same for all reasons: what a name means on the inside is not told.
    return AddressRefused("The address is refused: only public web servers on ports 80 and 443 can be reached.")


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """The only way out of the HTTP client."""

    def __init__(self, guard: AddressGuard, dialer: Dialer) -> None:
        self._guard = guard
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._guard.addresses(host, port)
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return _SmallReads(await self._dialer.dial(address, port))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no socket files")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _SmallReads(httpcore.AsyncNetworkStream):
    """A connection of which little is read at once.

    What one read brings is taken apart in one go, while everybody else waits: 64 KiB of answers like `103`, or of
    chunks of one byte each, keep an event loop for half a second.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        return await self._stream.read(min(max_bytes, _READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's own
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
    ) -> httpcore.AsyncNetworkStream:
        return _SmallReads(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
