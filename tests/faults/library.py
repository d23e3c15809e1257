"""A bot and its documents, and what must be true of both services' rows about them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from tests.faults.ledger import Ledger
from tests.faults.person import Person

_WORDS = """
    harbour tide crane ledger signal winter anchor market lantern bridge keeper cargo morning station letter captain
    river copper garden window season timber record village engine pepper cotton mirror
"""


def prose(seed: str, sentences: int = 25) -> str:
    """Sentences that nobody else has: two or three passages of them."""
    chosen = random.Random(seed)
    words = _WORDS.split()
    lines = [f"Entry {index} of {seed}: {' '.join(chosen.choices(words, k=12))}." for index in range(sentences)]
    return "\n\n".join(" ".join(lines[start : start + 5]) for start in range(0, len(lines), 5))


class Library:
    """The documents of one bot, uploaded by somebody who does not give up."""

    def __init__(self, person: Person, bot_id: str) -> None:
        self._person = person
        self.bot_id = bot_id
        self.texts: dict[str, str] = {}

    @classmethod
    async def of(cls, person: Person) -> Library:
        made = await person.persist("POST", "/bots", json={"name": "librarian"})
        return cls(person, str(made.json()["id"]))

    async def upload(self, seed: str) -> str:
        """Uploading the same bytes again is harmless, so it may be tried until it is acknowledged."""
        text = prose(seed)
        files = {"files": (f"{seed}.txt", text.encode(), "text/plain")}
        answer = await self._person.persist("POST", f"/bots/{self.bot_id}/documents", files=files)
        document_id = str(answer.json()["items"][0]["id"])
        self.texts[document_id] = text
        return document_id

    async def under_way(self, ledger: Ledger, ready: int, *, within: float) -> None:
        """Return as soon as so many documents are ready, and others are being indexed."""
        give_up_at = time.monotonic() + within
        counted: Counter[str] = Counter()
        while counted["ready"] < ready or not counted["processing"]:
            assert time.monotonic() < give_up_at, f"after {within} s {dict(counted)}"
            rows = await ledger.rows("SELECT status FROM chat.documents WHERE bot_id = $1", UUID(self.bot_id))
            counted = Counter(row["status"] for row in rows)
            await asyncio.sleep(0.01)

    async def all_final(self, ledger: Ledger, *, within: float) -> list[asyncpg.Record]:
        """The documents, once each is `ready` or `failed`."""
        give_up_at = time.monotonic() + within
        while True:
            rows = await ledger.rows("SELECT * FROM chat.documents WHERE bot_id = $1", UUID(self.bot_id))
            waiting = [dict(row) for row in rows if row["status"] not in ("ready", "failed")]
            if len(rows) == len(self.texts) and not waiting:
                return rows
            assert time.monotonic() < give_up_at, f"after {within} s not at an end: {waiting}"
            await asyncio.sleep(0.1)

    async def assert_whole(self, ledger: Ledger, documents: Sequence[asyncpg.Record]) -> None:
        """A ready document has exactly its passages, once, in order; a failed one has none and says why."""
        collection = UUID(self.bot_id)
        for document in documents:
            chunks = await ledger.rows(
                "SELECT * FROM agent.chunks WHERE collection_id = $1 AND document_id = $2 ORDER BY position",
                collection,
                document["id"],
            )
            if document["status"] == "failed":
                assert document["error"] is not None
                assert chunks == []
                continue
            self._assert_complete(document, chunks)
            for table in ("chunk_vectors", "chunk_terms"):
                rows = await ledger.rows(
                    f"SELECT chunk_id FROM agent.{table} WHERE collection_id = $1 AND document_id = $2",
                    collection,
                    document["id"],
                )
                assert {row["chunk_id"] for row in rows} == {chunk["id"] for chunk in chunks}, table
        await self._assert_counts(ledger, collection)

    def _assert_complete(self, document: asyncpg.Record, chunks: Sequence[asyncpg.Record]) -> None:
        text = self.texts[str(document["id"])]
        assert document["chunk_count"] == len(chunks) > 1
        assert [chunk["position"] for chunk in chunks] == list(range(len(chunks)))
        assert [chunk["text"] for chunk in chunks] == [
            text[chunk["start_char"] : chunk["end_char"]] for chunk in chunks
        ]
        assert "".join("".join(chunk["text"].split()) for chunk in chunks) == "".join(text.split())

    async def _assert_counts(self, ledger: Ledger, collection: UUID) -> None:
        (counted,) = await ledger.rows(
            "SELECT c.chunk_count, c.document_count, (SELECT count(*) FROM agent.chunks k WHERE k.collection_id = c.id)"
            " AS chunks FROM agent.collections c WHERE c.id = $1",
            collection,
        )
        assert counted["chunk_count"] == counted["chunks"]
        wrong = await ledger.rows(
            "SELECT term_key FROM (SELECT key AS term_key, count(*) AS held FROM agent.chunk_terms t,"
            " unnest(t.term_keys) AS key WHERE t.collection_id = $1 GROUP BY key) held"
            " FULL JOIN (SELECT * FROM agent.terms WHERE collection_id = $1 AND chunk_count > 0) said USING (term_key)"
            " WHERE held.held IS DISTINCT FROM said.chunk_count",
            collection,
        )
        assert wrong == []
        assert (
            await ledger.value("SELECT count(*) FROM chat.outbox WHERE subject_id::text = ANY($1)", list(self.texts))
            == 0
        )
