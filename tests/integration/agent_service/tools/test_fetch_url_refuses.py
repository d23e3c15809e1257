"""Nothing inside is ever spoken to: neither asked for, nor redirected to, nor by a name that changes its mind."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil
import pytest

from agent_service.adapters.guarded_http import GuardedHttp
from agent_service.ports.tools import ToolContext, ToolFailed
from agent_service.tools.fetch_url import FetchUrl
from shared.web.guarded_network import AddressGuard
from tests.factories.inner_addresses import INNER_ADDRESSES, NAMES
from tests.fakes.web import PUBLIC, FakeDialer, FakeResolver, WebServer, listening, page, redirect

CONTEXT = ToolContext(run_id=UUID(int=1))
SITE = "site.example"


def own_addresses() -> list[str]:
    """Of this machine, beyond loopback and those that need an interface's name."""
    found = [
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if each.family in {2, 10}
    ]
    return [address for address in found if "%" not in address and address not in {"127.0.0.1", "::1"}]


@dataclass
class Inside:
    """Servers that must not be spoken to, each on its own address, all heard of by `connections`."""

    servers: dict[str, WebServer]

    @property
    def connections(self) -> int:
        return sum(server.connections for server in self.servers.values())

    @property
    def port(self) -> int:
        return self.servers["127.0.0.1"].port

    @property
    def ports(self) -> set[int]:
        return {80, 443, *(server.port for server in self.servers.values())}


@pytest.fixture
async def inside() -> AsyncGenerator[Inside]:
    async with AsyncExitStack() as stack:
        servers = {}
        for host in ("127.0.0.1", "::1", *own_addresses()):
            server = WebServer({"/": page("a secret")})
            servers[host] = await stack.enter_async_context(listening(server, host=host))
        yield Inside(servers)


def fetcher(inside: Inside, outside: WebServer | None = None, names: dict[str, Any] | None = None) -> FetchUrl:
    """With all checks but that of the port, which the servers of a test could never pass."""
    resolver = FakeResolver({SITE: [[PUBLIC]], **{name: [answer] for name, answer in NAMES.items()}, **(names or {})})
    ways = {(PUBLIC, port): outside.port for port in inside.ports} if outside is not None else {}
    guard = AddressGuard(resolver, ports=inside.ports)
    return FetchUrl(GuardedHttp(guard, FakeDialer(ways)), seconds=60, max_bytes=100_000)


async def test_the_server_inside_would_answer(inside: Inside) -> None:
    guard = AddressGuard(FakeResolver(), trusted=[("127.0.0.1", inside.port)])
    tool = FetchUrl(GuardedHttp(guard), seconds=60, max_bytes=1000)
    assert "a secret" in (await tool.call({"url": f"http://127.0.0.1:{inside.port}/"}, CONTEXT)).text
    assert inside.connections == 1


def test_the_corpus_is_large() -> None:
    assert len(set(INNER_ADDRESSES)) == len(INNER_ADDRESSES) >= 60


@pytest.mark.parametrize("url", INNER_ADDRESSES)
async def test_does_not_ask_inside(inside: Inside, url: str) -> None:
    with pytest.raises(ToolFailed) as failed:
        await fetcher(inside).call({"url": url.replace("PORT", str(inside.port))}, CONTEXT)
    assert inside.connections == 0
    assert "secret" not in failed.value.message
    assert not failed.value.retryable


@pytest.mark.parametrize("url", [url for url in INNER_ADDRESSES if not re.search("[\r\n\x00]", url)])
async def test_is_not_sent_inside(inside: Inside, url: str) -> None:
    location = url.replace("PORT", str(inside.port))
    async with listening(WebServer({"/": redirect(location)})) as outside:
        with pytest.raises(ToolFailed):
            await fetcher(inside, outside).call({"url": f"http://{SITE}/"}, CONTEXT)
    assert inside.connections == 0
    assert outside.connections == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_no_kind_of_redirect_leads_inside(inside: Inside, status: str) -> None:
    answer = redirect(f"http://127.0.0.1:{inside.port}/", status)
    async with listening(WebServer({"/": answer})) as outside:
        with pytest.raises(ToolFailed, match="refused"):
            await fetcher(inside, outside).call({"url": f"http://{SITE}/"}, CONTEXT)
    assert inside.connections == 0


async def test_own_addresses_of_the_machine_are_inside(inside: Inside) -> None:
    for address, server in inside.servers.items():
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(ToolFailed):
            await fetcher(inside).call({"url": f"http://{host}:{server.port}/"}, CONTEXT)
    assert inside.connections == 0


@pytest.mark.parametrize("second", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_a_name_that_changes_its_mind_is_looked_up_once_for_each_request(inside: Inside, second: str) -> None:
    url = f"http://rebinding.example:{inside.port}/"
    resolver = FakeResolver({"rebinding.example": [[PUBLIC], [second]]})
    async with listening(WebServer({"/": page("outside"), "/again": redirect("/")})) as outside:
        dialer = FakeDialer({(PUBLIC, inside.port): outside.port})
        tool = FetchUrl(GuardedHttp(AddressGuard(resolver, ports=inside.ports), dialer), seconds=60, max_bytes=1000)
        answer = await tool.call({"url": url}, CONTEXT)
        assert "outside" in answer.text
        assert resolver.asked == ["rebinding.example"]

        resolver.asked.clear()
        with pytest.raises(ToolFailed, match="refused"):
            await tool.call({"url": f"{url}again"}, CONTEXT)
    assert len(resolver.asked) == 2
    assert outside.connections == 2
    assert inside.connections == 0
    assert dialer.dialled == [(PUBLIC, inside.port)] * 2


@pytest.mark.parametrize("port", [1, 22, 25, 81, 5432, 6379, 8000, 8080, 8443, 65535])
async def test_other_ports_than_those_of_the_web_are_closed(port: int) -> None:
    dialer = FakeDialer({})
    tool = FetchUrl(GuardedHttp(AddressGuard(FakeResolver({SITE: [[PUBLIC]]})), dialer), seconds=60, max_bytes=1000)
    for host in (SITE, PUBLIC):
        with pytest.raises(ToolFailed, match="ports 80 and 443"):
            await tool.call({"url": f"http://{host}:{port}/"}, CONTEXT)
    assert dialer.dialled == []


async def test_why_an_address_is_refused_is_not_told(inside: Inside) -> None:
    tool = fetcher(inside)
    told = set()
    for host in ("127.0.0.1", "private.example", "localhost", "chat-api", f"{SITE}:5432"):
        with pytest.raises(ToolFailed) as failed:
            await tool.call({"url": f"http://{host}/"}, CONTEXT)
        told.add(failed.value.message)
    assert len(told) == 1


async def test_no_proxy_of_the_environment_is_asked(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inside.port}")
    async with listening(WebServer({"/": page("straight")})) as outside:
        assert "straight" in (await fetcher(inside, outside).call({"url": f"http://{SITE}/"}, CONTEXT)).text
    assert inside.connections == 0


@pytest.mark.parametrize(
    "location", ["//127.0.0.1:PORT/", "//localhost:PORT/", "\\\\127.0.0.1:PORT/", "/\t/127.0.0.1:PORT/"]
)
async def test_a_redirect_without_a_scheme_does_not_lead_inside_either(inside: Inside, location: str) -> None:
    answer = redirect(location.replace("PORT", str(inside.port)))
    async with listening(WebServer({"/": answer})) as outside:
        with pytest.raises(ToolFailed):
            await fetcher(inside, outside).call({"url": f"http://{SITE}/"}, CONTEXT)
    assert (inside.connections, outside.connections) == (0, 1)
