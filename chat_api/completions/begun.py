"""Which requests were handed to a model, whichever process it was that did it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from uuid import UUID

from chat_api.kit.db import Database
from shared.openai.errors import TurnAlreadyBegun
from shared.openai.response import REMEMBERED_SECONDS, fingerprint, is_retry

# Beside the answers of creating POSTs, and forgotten with them. No header can hold a key with a space.
_KEY = "completion "

_RETRIED_SECONDS = 120.0
"""OpenAI's clients wait a minute at most before they try again."""

_BEGIN = """
    WITH earlier AS (
        SELECT created_at > now() - make_interval(secs => $4) AS counts
        FROM chat.idempotency_keys WHERE user_id = $1 AND key = $2
    )
    INSERT INTO chat.idempotency_keys (user_id, key, request_hash) VALUES ($1, $2, $3)
    ON CONFLICT (user_id, key) DO UPDATE SET created_at = now()
    RETURNING coalesce((SELECT counts FROM earlier), false) AS was_begun
"""
"""($1 user, $2 key, $3 hash, $4 seconds) → whether the same request was begun so lately."""

_FORGET = "DELETE FROM chat.idempotency_keys WHERE user_id = $1 AND key = $2"


class RefusedAttempts:
    """First attempts that were refused before their turn was begun: the retry that each of them leads to is welcome.

    Without this, whoever asks the same several times on purpose and is slowed down would be told that the turn was
    begun, because an earlier one with the same bytes was. One per process.

    Whoever asks too often is refused before their body is read. Of such an attempt only its length is known.
    """

    def __init__(self, *, most: int = 1_000, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._refused: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def add(self, user_id: UUID, body: bytes, headers: Mapping[str, str]) -> None:
        self._add(fingerprint(str(user_id), body), headers)

    def add_unread(self, user_id: UUID, headers: Mapping[str, str]) -> None:
        self._add(_by_length(user_id, headers.get("content-length", "")), headers)

    def _add(self, key: bytes, headers: Mapping[str, str]) -> None:
        if is_retry(headers):
            return
        self._refused[key] = (self._now(), self._waiting(key) + 1)
        self._refused.move_to_end(key)
        if len(self._refused) > self._most:
            self._refused.popitem(last=False)

    def take(self, user_id: UUID, body: bytes) -> bool:
        """Whether a retry may follow such a refusal, which it uses up."""
        return self._take(fingerprint(str(user_id), body)) or self._take(_by_length(user_id, str(len(body))))

    def _take(self, key: bytes) -> bool:
        waiting = self._waiting(key)
        if waiting:
            self._refused[key] = (self._refused[key][0], waiting - 1)
        return waiting > 0

    def _waiting(self, key: bytes) -> int:
        refused_at, waiting = self._refused.get(key, (0.0, 0))
        return waiting if self._now() - refused_at < _RETRIED_SECONDS else 0


def _by_length(user_id: UUID, length: str) -> bytes:
    return f"{user_id} {length}".encode()


class StoredTurns:
    """A client that timed out tries again by itself, and may reach another process: only the database knows."""

    def __init__(self, database: Database, refused: RefusedAttempts) -> None:
        self._database = database
        self.refused = refused

    async def begin(self, user_id: UUID, body: bytes, headers: Mapping[str, str]) -> str:
        """To be called right before the turn is handed on; what to `forget` it by. Raises `TurnAlreadyBegun`."""
        digest = fingerprint(str(user_id), body)
        key = f"{_KEY}{digest.hex()}"
        row = await self._database.fetch_row(_BEGIN, user_id, key, digest, REMEMBERED_SECONDS)
        assert row is not None
        if is_retry(headers) and not self.refused.take(user_id, body) and row["was_begun"]:
            raise TurnAlreadyBegun
        return key

    async def forget(self, user_id: UUID, key: str) -> None:
        """The turn reached nobody after all: it may be tried again."""
        await self._database.fetch_rows(_FORGET, user_id, key)
