"""Which web pages may speak the protocol. A page whose host only claims to be this one may not."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from chat_api.mcp_server.origins import is_allowed

SPA = "https://spa.example.org"


@pytest.mark.parametrize(
    ("origins", "host", "expected"),
    [
        ([], "chat.example.org", True),
        ([SPA], "chat.example.org", True),
        (["https://chat.example.org"], "chat.example.org", True),
        (["http://127.0.0.1:8000"], "127.0.0.1:8000", True),
        (["http://[::1]:8000"], "[::1]:8000", True),
        (["http://localhost:8000"], "localhost:8000", True),
        # What a rebound name looks like: the page and the address it calls have the same name.
        (["http://evil.example:8000"], "evil.example:8000", False),
        (["http://localhost.evil.example:8000"], "localhost.evil.example:8000", False),
        (["http://127.0.0.1.evil.example"], "127.0.0.1.evil.example", False),
        (["http://192.168.0.7:8000"], "192.168.0.7:8000", False),
        (["http://localhost:3000"], "localhost:8000", False),
        (["https://evil.example"], "chat.example.org", False),
        (["http://spa.example.org"], "chat.example.org", False),
        (["null"], "chat.example.org", False),
        ([""], "", False),
        (["http://[::1"], "[::1", False),
        ([SPA, SPA], "chat.example.org", False),
    ],
)
def test_the_name_of_a_page_is_believed_where_it_cannot_lie(origins: list[str], host: str, expected: bool) -> None:
    raw = [(b"host", host.encode()), *((b"origin", origin.encode()) for origin in origins)]

    assert is_allowed(Headers(raw=raw), [SPA]) is expected


def test_two_hosts_are_none() -> None:
    raw = [(b"host", b"a"), (b"host", b"b"), (b"origin", b"https://a")]

    assert not is_allowed(Headers(raw=raw), [])


def test_every_page_may_where_the_settings_say_so() -> None:
    assert is_allowed(Headers(raw=[(b"origin", b"http://evil.example")]), ["*"])
