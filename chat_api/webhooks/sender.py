"""The way to the addresses of customers: a request, signed by its caller, to a public server and to no other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import httpcore
import httpx

from chat_api.webhooks.brief_network import BriefNetwork
from chat_api.webhooks.errors import AddressNotAllowed, EndpointTimedOut, EndpointUnreachable
from shared.web.addresses import AddressRefused, WebAddress, is_inner_name, is_public, literal, parsed
from shared.web.guarded_network import AddressGuard, Dialer, GuardedNetwork, SystemResolver, TcpDialer

_USER_AGENT = "Colloquy/0.1 (webhooks)"


class WebhookSender(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status that the endpoint answers with. Follows nothing, and reads no answer's body.

        Raises `AddressNotAllowed`, `EndpointUnreachable`, `EndpointTimedOut`.
        """
        ...


def checked_url(url: str, internal_hosts: Collection[str]) -> str:
    """The address as it is stored. Raises `AddressRefused` with what is wrong with it.

    What a name turns out to be is looked at again at each delivery.
    """
    address = parsed(url)
    if _is_internal(address, internal_hosts):
        return str(address)
    if address.scheme != "https":
        raise AddressRefused("The address has to begin with https://.")
    number = literal(address.host)
    if is_inner_name(address.host) if number is None else not is_public(number):
        raise AddressRefused("The address is not one of the public internet.")
    return str(address)


def _is_internal(address: WebAddress, internal_hosts: Collection[str]) -> bool:
    return f"{address.host}:{address.port}" in internal_hosts


class GuardedSender:
    """A `WebhookSender`. `seconds` bounds a whole attempt, looking up the name included.

    `internal_hosts` are those (`host:port`) that the operator lets be called although they are not public.
    """

    def __init__(
        self,
        *,
        seconds: float,
        internal_hosts: Collection[str] = (),
        guard: AddressGuard | None = None,
        dialer: Dialer | None = None,
        tls: Callable[[], ssl.SSLContext] = httpx.create_ssl_context,
    ) -> None:
        self._seconds = seconds
        self._internal_hosts = frozenset(internal_hosts)
        self._guarded = GuardedNetwork(guard or AddressGuard(SystemResolver()), dialer or TcpDialer())
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(parsed(url), headers, body)
        except AddressRefused as refusal:
            raise AddressNotAllowed(str(refusal)) from None
        except (TimeoutError, httpcore.TimeoutException):
            raise EndpointTimedOut from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise EndpointUnreachable(_why(error)) from None

    async def _post(self, address: WebAddress, headers: Mapping[str, str], body: bytes) -> int:
        network = httpcore.AnyIOBackend() if _is_internal(address, self._internal_hosts) else self._guarded
        tls = await self._tls_context() if address.scheme == "https" else None
        sent = [
            ("Host", address.authority),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", _USER_AGENT),
            ("Connection", "close"),
            *headers.items(),
        ]
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=address.target.encode(),
        )
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=1,
                max_keepalive_connections=0,
                network_backend=BriefNetwork(network),
            ) as pool,
            pool.stream("POST", url, headers=sent, content=body) as response,
        ):
            status: int = response.status
            return status

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading all root certificates takes tens of milliseconds.
            self._tls = await asyncio.to_thread(self._make_tls)
        return self._tls


def _why(error: Exception) -> str | None:
    if any(isinstance(cause, ssl.SSLError) for cause in (error, error.__cause__, error.__context__)):
        return "The endpoint's certificate is not valid for its name, or TLS fails otherwise."
    return None
