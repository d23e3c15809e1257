"""`python -m deploy.healthy URL`: whether an address answers with 200, as an exit code, for the health checks of
images that have no curl."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

SECONDS = 5.0


def is_healthy(url: str) -> bool:
    """Ask once, `SECONDS` at most. Never raises."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)
    try:
        connection.request("GET", address.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_healthy(sys.argv[1]) else 1)
