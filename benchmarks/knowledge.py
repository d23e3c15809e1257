"""A bot, its documents and its searches, through the chat API as any client would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import click
import httpx

from benchmarks import seeding
from benchmarks.stack import Server, Stack

_FILES_A_REQUEST = 40
_SEARCHES_AT_ONCE = 2
_POLL_SECONDS = 0.25
_STATUSES = "SELECT status, count(*) AS number FROM chat.documents WHERE id = ANY($1::uuid[]) GROUP BY status"
_FAILURES = "SELECT name, error ->> 'detail' AS detail FROM chat.documents WHERE bot_id = $1 AND status = 'failed'"


class IngestFailed(Exception):
    """A document did not become ready; the message says which and why."""


class Bot:
    """One bot of one person. Uploads and searches go over HTTP; only the waiting looks into the database."""

    def __init__(self, bot_id: str, client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        self.id = bot_id
        self._client = client
        self._connection = connection

    async def ingest(self, files: Mapping[str, bytes], *, label: str) -> dict[str, str]:
        """Upload files and wait until all are ready, with a progress bar; document ids by file name.

        Files with the same bytes are one document, and share its id. Raises `IngestFailed`.
        """
        names = list(files)
        ids: dict[str, str] = {}
        with click.progressbar(length=len(names), label=label, show_pos=True) as bar:
            uploading = asyncio.create_task(self._upload(names, files, ids))
            try:
                ready = 0
                while not uploading.done() or ready < len(set(ids.values())):
                    await asyncio.sleep(_POLL_SECONDS)
                    if uploading.done():
                        uploading.result()
                    now = await self._ready(ids)
                    bar.update(now - ready)
                    ready = now
            finally:
                uploading.cancel()
            bar.update(len(names) - ready)
        return ids

    async def _upload(self, names: Sequence[str], files: Mapping[str, bytes], ids: dict[str, str]) -> None:
        for start in range(0, len(names), _FILES_A_REQUEST):
            some = names[start : start + _FILES_A_REQUEST]
            answer = await self._client.post(
                f"/bots/{self.id}/documents", files=[("files", (name, files[name], "text/plain")) for name in some]
            )
            if answer.status_code != 202:
                raise IngestFailed(f"upload: {answer.status_code} {answer.text[:500]}")
            ids.update(zip(some, (item["id"] for item in answer.json()["items"]), strict=True))

    async def _ready(self, ids: Mapping[str, str]) -> int:
        """How many of these documents are."""
        rows = await self._connection.fetch(_STATUSES, list(set(ids.values())))
        counts = {row["status"]: row["number"] for row in rows}
        if counts.get("failed"):
            failed = await self._connection.fetch(_FAILURES, self.id)
            raise IngestFailed("; ".join(f"{row['name']}: {row['detail']}" for row in failed[:5]))
        return int(counts.get("ready", 0))

    async def search(self, query: str, *, mode: str, top_k: int) -> list[dict[str, Any]]:
        body = {"query": query, "mode": mode, "top_k": top_k}
        answer = await self._client.post(f"/bots/{self.id}/search", json=body)
        answer.raise_for_status()
        passages: list[dict[str, Any]] = answer.json()["passages"]
        return passages

    async def search_all(
        self, queries: Mapping[str, str], *, mode: str, top_k: int
    ) -> tuple[dict[str, list[dict[str, Any]]], list[float]]:
        """Passages by query, and how long each search took in milliseconds."""
        found: dict[str, list[dict[str, Any]]] = {}
        took: list[float] = []
        waiting = iter(queries.items())
        with click.progressbar(length=len(queries), label=f"{mode:>6} searches", show_pos=True) as bar:

            async def ask() -> None:
                for name, query in waiting:
                    started = time.perf_counter()
                    found[name] = await self.search(query, mode=mode, top_k=top_k)
                    took.append((time.perf_counter() - started) * 1000)
                    bar.update(1)

            await asyncio.gather(*(ask() for _ in range(_SEARCHES_AT_ONCE)))
        return found, took


@asynccontextmanager
async def new_bot(stack: Stack, api: Server, name: str) -> AsyncIterator[Bot]:
    """A bot of a new person, for one benchmark."""
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{api.port}/api/v1",
            headers={"Authorization": f"Bearer {person.token}"},
            timeout=120,
            trust_env=False,
        )
        async with client:
            made = await client.post("/bots", json={"name": name})
            made.raise_for_status()
            yield Bot(made.json()["id"], client, connection)
    finally:
        await connection.close()
