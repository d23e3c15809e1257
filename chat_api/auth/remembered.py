"""A bounded memory of verified access tokens."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from chat_api.auth.actors import Actor

MOST_TOKENS = 10_000
"""About 5 MB. A token that is pushed out is verified again, which costs 100 µs and no statement."""


class RememberedTokens:
    """Keeps the tokens used last, by their digest: the tokens themselves lie nowhere in memory."""

    def __init__(self, most: int = MOST_TOKENS) -> None:
        self._most = most
        self._actors: OrderedDict[bytes, tuple[Actor, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._actors)

    def get(self, token: str, now: float) -> Actor | None:
        """The actor of a remembered token that has not expired. `now` is in seconds since the epoch."""
        digest = _digest(token)
        entry = self._actors.get(digest)
        if entry is None:
            return None
        actor, expires_at = entry
        if expires_at <= now:
            del self._actors[digest]
            return None
        self._actors.move_to_end(digest)
        return actor

    def put(self, token: str, actor: Actor, expires_at: int) -> None:
        self._actors[_digest(token)] = (actor, expires_at)
        if len(self._actors) > self._most:
            self._actors.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
