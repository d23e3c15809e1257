"""Which pages may open a socket."""

from __future__ import annotations

from typing import Any

import pytest

from chat_api.realtime.origins import is_allowed


def allowed(
    *origins: str,
    host: str | None = "chat.example.org",
    scheme: str = "ws",
    settings: list[str] | None = None,
    **more: str,
) -> bool:
    headers = [(b"origin", origin.encode("latin-1")) for origin in origins]
    headers += [] if host is None else [(b"host", host.encode("latin-1"))]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    scope: dict[str, Any] = {"type": "websocket", "scheme": scheme, "headers": headers}
    return is_allowed(scope, settings or [])


def test_who_is_no_browser_may() -> None:
    assert allowed()
    assert allowed(host=None)
    assert allowed(settings=["https://app.example.org"])


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://chat.example.org", "chat.example.org", "ws"),
        ("https://chat.example.org", "chat.example.org", "wss"),
        # Behind a proxy that ends TLS.
        ("https://chat.example.org", "chat.example.org", "ws"),
        ("http://localhost:8000", "localhost:8000", "ws"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "ws"),
        ("http://[::1]:8000", "[::1]:8000", "ws"),
        ("http://chat.example.org", "chat.example.org:80", "ws"),
        ("https://chat.example.org", "chat.example.org:443", "wss"),
        ("http://Chat.Example.Org", "CHAT.example.org", "ws"),
    ],
)
def test_pages_of_the_same_host_may(origin: str, host: str, scheme: str) -> None:
    assert allowed(origin, host=host, scheme=scheme)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        " ",
        "https://evil.example",
        "http://chat.example.org.evil.example",
        "http://evil.example/chat.example.org",
        "http://chat.example.org@evil.example",
        "http://evil.example#chat.example.org",
        "http://evil.example?chat.example.org",
        "http://evilchat.example.org",
        "http://sub.chat.example.org",
        "http://example.org",
        "http://chat.example.org:8000",
        "http://chat.example.org:",
        "http://chat.example.org/",
        "http://chat.example.org ",
        " http://chat.example.org",
        "http://chat.example.org, http://evil.example",
        "http://evil.example http://chat.example.org",
        "http://chat.example.org\x00",
        "http://chat.example.org\n",
        "http:/chat.example.org",
        "//chat.example.org",
        "chat.example.org",
        "http://",
        "ws://chat.example.org",
        "file://chat.example.org",
        "file://",
        "chrome-extension://abcdef",
        "http://chät.example.org",
        "http://chat.example.org\xff",
        "*",
        "https://*",
    ],
)
def test_no_other_page_may(origin: str) -> None:
    assert not allowed(origin)
    assert not allowed(origin, settings=["https://app.example.org"])


def test_a_page_without_encryption_may_not_open_an_encrypted_socket() -> None:
    assert not allowed("http://chat.example.org", scheme="wss")


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "chat.example.org:81", "chat.example.org/x", "a@chat.example.org"]
)
def test_what_host_it_came_to_has_to_be_known(host: str | None) -> None:
    assert not allowed("http://chat.example.org", host=host)


def test_what_a_client_says_of_a_proxy_is_not_believed() -> None:
    assert not allowed(
        "https://evil.example",
        x_forwarded_host="evil.example",
        x_forwarded_proto="https",
        forwarded="host=evil.example;proto=https",
    )


def test_two_origins_are_none() -> None:
    assert not allowed("http://chat.example.org", "http://evil.example")
    assert not allowed("http://evil.example", "http://chat.example.org")
    assert not allowed("http://evil.example", "http://chat.example.org", settings=["*"])


def test_pages_of_the_settings_may() -> None:
    settings = ["https://app.example.org", "http://localhost:5173"]

    assert allowed("https://app.example.org", settings=settings)
    assert allowed("https://app.example.org:443", settings=settings)
    assert allowed("http://localhost:5173", settings=settings)
    assert not allowed("http://app.example.org", settings=settings)
    assert not allowed("https://app.example.org:8443", settings=settings)
    assert not allowed("http://localhost", settings=settings)
    assert not allowed("null", settings=[*settings, "null"])


def test_a_star_lets_every_page() -> None:
    assert allowed("https://anything.example", settings=["*"])
