"""Which web pages may speak to the server of the protocol.

A page of anybody's can have the name that it came from point at this machine (DNS rebinding), and is then one of this
host to the browser. So to be of this host is enough only where the name cannot lie: over https, which a foreign page
has no certificate for, and for the names of the machine itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_EVERY = "*"
_LOCAL_NAME = "localhost"


def is_allowed(headers: Headers, cors_origins: Sequence[str]) -> bool:
    """Whether the caller may: no page at all, one of the settings, or one of this host whose name is true."""
    origins = headers.getlist("origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    [origin] = origins
    if _EVERY in cors_origins or origin in cors_origins:
        return True
    hosts = headers.getlist("host")
    if len(hosts) != 1:
        return False
    if origin == f"https://{hosts[0]}":
        return True
    return origin == f"http://{hosts[0]}" and _is_this_machine(origin)


def _is_this_machine(origin: str) -> bool:
    try:
        name = urlsplit(origin).hostname or ""
        return name == _LOCAL_NAME or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
