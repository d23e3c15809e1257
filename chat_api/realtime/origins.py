"""Which browser pages may open a socket.

A browser lets any page open one anywhere, and says which page it is. Sockets carry no cookies, so a foreign page has no
credential of its visitor's to use; the check keeps it from using one that it got hold of in the visitor's browser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.types import Scope

_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?)")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_allowed(scope: Scope, cors_origins: Sequence[str]) -> bool:
    """Whether the page that opens a socket may: none (no browser), one of this host, or one of the settings.

    `Host` is what the client asked for; `X-Forwarded-*` is not looked at, because anybody can send it. A proxy that
    ends TLS leaves `ws` of `wss`, so a page over https may open either; a page over http may not open `wss`.
    """
    origins = _values(scope, b"origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    if "*" in cors_origins:
        return True
    origin = _normal(origins[0])
    if origin is None:
        return False
    return origin in map(_normal, cors_origins) or _is_own(scope, origin)


def _is_own(scope: Scope, origin: str) -> bool:
    hosts = _values(scope, b"host")
    if len(hosts) != 1:
        return False
    schemes = ("https",) if scope["scheme"] == "wss" else ("http", "https")
    return any(origin == _normal(f"{scheme}://{hosts[0]}") for scheme in schemes)


def _normal(text: str) -> str | None:
    """An origin as browsers write it; None for what is none, as `null` or an address with a path."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, authority = match["scheme"], match["authority"]
    return f"{scheme}://{authority.removesuffix(_DEFAULT_PORTS[scheme])}"


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
