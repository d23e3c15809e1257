"""The connection goes to a number; the certificate still has to bear the name."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_service.adapters.guarded_http import GuardedHttp
from agent_service.ports.tools import ToolContext, ToolFailed
from agent_service.tools.fetch_url import FetchUrl
from shared.web.guarded_network import AddressGuard
from tests.fakes.web import PUBLIC, FakeDialer, FakeResolver, WebServer, listening, page, redirect

CONTEXT = ToolContext(run_id=UUID(int=1))
ServingAs = Callable[[str], tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def serving_as(tmp_path: Path) -> ServingAs:
    """For a name: what its server uses, and what makes the context of a client that trusts it."""

    def make(name: str) -> tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]:
        bearing, key = certificate(tmp_path, name)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(bearing, key)
        return server, lambda: ssl.create_default_context(cafile=str(bearing))

    return make


def fetcher(server: WebServer, tls: Callable[[], ssl.SSLContext] | None) -> FetchUrl:
    guard = AddressGuard(FakeResolver({"site.example": [[PUBLIC]], "other.example": [[PUBLIC]]}))
    dialer = FakeDialer({(PUBLIC, 443): server.port, (PUBLIC, 80): server.port})
    web = GuardedHttp(guard, dialer, tls=tls) if tls is not None else GuardedHttp(guard, dialer)
    return FetchUrl(web, seconds=60, max_bytes=10_000)


async def test_the_name_of_the_address_is_the_name_of_the_certificate(serving_as: ServingAs) -> None:
    tls, client = serving_as("site.example")
    seen: list[str | None] = []
    tls.sni_callback = lambda _, name, __: seen.append(name)
    async with listening(WebServer({"/": page("in private")}), tls=tls) as server:
        answer = await fetcher(server, client).call({"url": "https://site.example/"}, CONTEXT)
    assert "in private" in answer.text
    assert seen == ["site.example"]
    assert b"Host: site.example\r\n" in server.requests[0]


async def test_a_certificate_of_another_name_is_refused(serving_as: ServingAs) -> None:
    tls, client = serving_as("site.example")
    async with listening(WebServer({"/": page("in private")}), tls=tls) as server:
        for host in ("other.example", PUBLIC):
            with pytest.raises(ToolFailed, match="certificate") as failed:
                await fetcher(server, client).call({"url": f"https://{host}/"}, CONTEXT)
            assert not failed.value.retryable
    assert server.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(serving_as: ServingAs) -> None:
    tls, _ = serving_as("site.example")
    async with listening(WebServer({"/": page("in private")}), tls=tls) as server:
        with pytest.raises(ToolFailed, match="certificate"):
            await fetcher(server, None).call({"url": "https://site.example/"}, CONTEXT)
    assert server.requests == []


async def test_https_is_not_left_for_http(serving_as: ServingAs) -> None:
    tls, client = serving_as("site.example")
    async with listening(WebServer({"/": redirect("http://site.example/next")}), tls=tls) as server:
        with pytest.raises(ToolFailed, match="from https to http"):
            await fetcher(server, client).call({"url": "https://site.example/"}, CONTEXT)
    assert server.connections == 1
