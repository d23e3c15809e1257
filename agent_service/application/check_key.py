"""API keys, checked by the chat API and remembered for a short while."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from agent_service.ports.key_introspection import KeyIntrospector
from shared.contracts.introspection import KeyIntrospection


class RememberedKeys:
    """A `KeyIntrospector` that asks once in `seconds`, so a revoked key works that much longer at most.

    Keeps hashes, never keys, and at most `size` of them.
    """

    def __init__(
        self,
        introspector: KeyIntrospector,
        *,
        seconds: float = 30.0,
        size: int = 4096,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._introspector = introspector
        self._seconds = seconds
        self._size = size
        self._now = now
        self._known: OrderedDict[bytes, tuple[float, KeyIntrospection]] = OrderedDict()

    async def introspect(self, key: str) -> KeyIntrospection:
        digest = hashlib.sha256(key.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known[0] > self._now():
            return known[1]
        answer = await self._introspector.introspect(key)
        self._known[digest] = (self._now() + self._seconds, answer)
        self._known.move_to_end(digest)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return answer
