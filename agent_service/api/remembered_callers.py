"""A bounded memory of verified service tokens: the chat API shows the same one for minutes, with every turn."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_TOKENS = 100


class RememberedCallers:
    """Keeps the tokens used last, by their digest: the tokens themselves lie nowhere in memory."""

    def __init__(self, now: Callable[[], float] = time.time, *, most: int = _MOST_TOKENS) -> None:
        self._now = now
        self._most = most
        self._names: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def get(self, token: str) -> str | None:
        """Who showed this token, unless it is unknown, or has expired meanwhile."""
        digest = _digest(token)
        known = self._names.get(digest)
        if known is None:
            return None
        name, expires_at = known
        if expires_at <= self._now():
            del self._names[digest]
            return None
        self._names.move_to_end(digest)
        return name

    def put(self, token: str, name: str, expires_at: int) -> None:
        """`expires_at` is in seconds since the epoch."""
        self._names[_digest(token)] = (name, expires_at)
        if len(self._names) > self._most:
            self._names.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
