"""A bounded memory of verified tokens: the same one is shown for minutes, with every request."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

Holder = TypeVar("Holder")

MOST_TOKENS = 10_000
"""About 5 MB. A token that is pushed out is verified again, which costs 100 µs and no statement."""


class RememberedTokens(Generic[Holder]):
    """Keeps the tokens used last, by their digest: the tokens themselves lie nowhere in memory."""

    def __init__(self, most: int = MOST_TOKENS) -> None:
        self._most = most
        self._holders: OrderedDict[bytes, tuple[Holder, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def get(self, token: str, now: float) -> Holder | None:
        """Whose remembered token it is, unless it has expired. `now` is in seconds since the epoch."""
        digest = _digest(token)
        entry = self._holders.get(digest)
        if entry is None:
            return None
        holder, expires_at = entry
        if expires_at <= now:
            del self._holders[digest]
            return None
        self._holders.move_to_end(digest)
        return holder

    def put(self, token: str, holder: Holder, expires_at: int) -> None:
        """`expires_at` is in seconds since the epoch."""
        self._holders[_digest(token)] = (holder, expires_at)
        if len(self._holders) > self._most:
            self._holders.popitem(last=False)


def _digest(token: str) -> bytes:
    # Whatever a client sends, also a lone surrogate: it has to be looked up before it is refused.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
