"""Watching documents change, as server-sent events.

One poller a process asks PostgreSQL which of all watched documents changed, however many watch. It compares the rows'
`xmin`, which every update changes, so it sees what any process wrote and needs no word from it. A stream tells
states, not steps: a reader that is slow gets the latest state of each document, and one that comes back begins
with the present.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from chat_api.documents.models import FINAL_STATUSES, DocumentStatus
from chat_api.documents.repository import DocumentRepository
from chat_api.documents.schemas import DocumentGone, DocumentRead
from chat_api.kit.db import Database, is_store_down
from shared.logging import get_logger

log = get_logger("documents")

KEEPALIVE = b": keep-alive\n\n"
_POLL_SECONDS = 0.5
_SHARE_OF_TIME = 0.05
"""Of the poller's time that a poll may take: where many documents are watched it polls more rarely."""

MayWatch = Callable[[], Awaitable[bool]]
"""Whether whoever reads the stream still may."""

_STATES = """
    SELECT d.id, d.bot_id, d.xmin::text AS revision FROM chat.documents d
    WHERE d.id = ANY($1::uuid[]) AND d.deleted_at IS NULL
    UNION
    SELECT d.id, d.bot_id, d.xmin::text FROM chat.documents d
    WHERE d.bot_id = ANY($2::uuid[]) AND d.deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """One document, or all of a bot where `document_id` is None."""

    bot_id: UUID
    document_id: UUID | None


@dataclass(eq=False, slots=True)
class _Reader:
    """What one stream has still to send: the latest frame of each document."""

    pending: dict[UUID, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def tell(self, document_id: UUID, frame: bytes, *, last: bool) -> None:
        if self.ended:
            return  # the poller may still come with what it read before the end
        self.pending[document_id] = frame
        self.ended = last
        self.changed.set()


@dataclass(eq=False, slots=True)
class _Target:
    """Who watches the same thing, and what its rows looked like last; None before the first look."""

    readers: set[_Reader] = field(default_factory=set)
    revisions: dict[UUID, str] | None = None


class DocumentWatch:
    """`idle_seconds` between keep-alive comments, and before the right to watch is checked again.

    A stream lasts `longest_seconds`, then the client comes again.
    """

    def __init__(self, database: Database, *, idle_seconds: float, longest_seconds: float) -> None:
        self._database = database
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._targets: dict[Watched, _Target] = {}
        self._wanted = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._poll_for_ever(), name="document-watch")

    def stop_following(self) -> None:
        """End every stream, so that its client goes to another process. Idempotent."""
        self._closing = True
        for target in self._targets.values():
            for reader in target.readers:
                reader.changed.set()

    async def close(self) -> None:
        self.stop_following()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def follow(self, watched: Watched, may_watch: MayWatch) -> AsyncIterator[bytes]:
        """Frames: first the present state, then every change.

        The stream of one document ends when it is ready, failed or deleted. That of a bot begins with the documents
        that are not ready yet, and goes on. All end with `longest_seconds`, once the reader may not watch any more,
        and when this process shuts down.
        """
        reader = _Reader()
        target = self._targets.setdefault(watched, _Target())
        target.readers.add(reader)
        self._wanted.set()
        try:
            # After joining, so that what changes meanwhile is told by the poller: twice is better than never.
            while not self._closing and not await self._begun(watched, target, reader):
                yield KEEPALIVE
                await asyncio.sleep(_POLL_SECONDS)
            async for frames in self._batches(reader, may_watch):
                yield frames
        finally:
            target.readers.discard(reader)
            if not target.readers and self._targets.get(watched) is target:
                del self._targets[watched]

    async def _begun(self, watched: Watched, target: _Target, reader: _Reader) -> bool:
        """False while PostgreSQL restarts: the answer has begun, so it could only break off."""
        try:
            await self._begin(watched, target, reader)
        except Exception as error:
            if not is_store_down(error):
                raise
            return False
        return True

    async def _begin(self, watched: Watched, target: _Target, reader: _Reader) -> None:
        revisions = (await self._look([watched]))[watched]
        if target.revisions is None:
            target.revisions = revisions
        documents = await self._read(revisions)
        if watched.document_id is not None and watched.document_id not in documents:
            reader.tell(watched.document_id, _gone_frame(watched.document_id, watched.bot_id), last=True)
        for document in documents.values():
            if watched.document_id is not None or document.status not in FINAL_STATUSES:
                _tell(watched, reader, document)

    async def _batches(self, reader: _Reader, may_watch: MayWatch) -> AsyncIterator[bytes]:
        checked_at = time.monotonic()
        until = checked_at + self._longest_seconds
        while not self._closing and (remaining := until - time.monotonic()) > 0:
            is_quiet = False
            try:
                async with asyncio.timeout(min(self._idle_seconds, remaining)):
                    await reader.changed.wait()
            except TimeoutError:
                is_quiet = True
            if time.monotonic() - checked_at >= self._idle_seconds:
                if not await _still(may_watch):
                    return
                checked_at = time.monotonic()
            if is_quiet:
                yield KEEPALIVE
                continue
            reader.changed.clear()
            ended, frames, reader.pending = reader.ended, reader.pending, {}
            if frames:
                yield b"".join(frames.values())
            if ended:
                return

    async def _poll_for_ever(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._targets:
                self._wanted.clear()
                continue
            started = time.monotonic()
            try:
                await self._poll()
            except Exception as error:  # noqa: BLE001 - the only poller there is must not die of one bad round
                level = log.warning if is_store_down(error) else log.error
                level("documents.watch_failed", error=type(error).__name__)
            took = time.monotonic() - started
            await asyncio.sleep(max(_POLL_SECONDS, took / _SHARE_OF_TIME))

    async def _poll(self) -> None:
        targets = {watched: target for watched, target in self._targets.items() if target.revisions is not None}
        if not targets:
            return
        states = await self._look(targets)
        changed = {
            document_id
            for watched, revisions in states.items()
            for document_id, revision in revisions.items()
            if (targets[watched].revisions or {}).get(document_id) != revision
        }
        documents = await self._read(changed) if changed else {}
        for watched, revisions in states.items():
            self._compare(watched, targets[watched], revisions, documents)

    def _compare(
        self, watched: Watched, target: _Target, revisions: dict[UUID, str], documents: dict[UUID, DocumentRead]
    ) -> None:
        before = target.revisions or {}
        target.revisions = revisions
        for reader in target.readers:
            for document_id in before.keys() - revisions.keys():
                gone = _gone_frame(document_id, watched.bot_id)
                reader.tell(document_id, gone, last=watched.document_id is not None)
            for document_id, revision in revisions.items():
                # Deleted between the two reads: the next round tells.
                if before.get(document_id) != revision and document_id in documents:
                    _tell(watched, reader, documents[document_id])

    async def _look(self, watched: Iterable[Watched]) -> dict[Watched, dict[UUID, str]]:
        """Which documents there are, and the revision of each."""
        wanted = list(watched)
        ids = [one.document_id for one in wanted if one.document_id is not None]
        bots = [one.bot_id for one in wanted if one.document_id is None]
        rows = await self._database.fetch_rows(_STATES, ids, bots)
        by_id: dict[UUID, str] = {}
        by_bot: dict[UUID, dict[UUID, str]] = {bot_id: {} for bot_id in bots}
        for row in rows:
            by_id[row["id"]] = row["revision"]
            if row["bot_id"] in by_bot:
                by_bot[row["bot_id"]][row["id"]] = row["revision"]
        return {one: _of_target(one, by_id, by_bot) for one in wanted}

    async def _read(self, document_ids: Iterable[UUID]) -> dict[UUID, DocumentRead]:
        async with self._database.unit() as db:
            documents = await DocumentRepository(db).of_ids(list(document_ids))
        return {document.id: DocumentRead.of(document) for document in documents}


async def _still(may_watch: MayWatch) -> bool:
    """True while PostgreSQL is away: there is nothing to tell then."""
    try:
        return await may_watch()
    except Exception as error:
        if not is_store_down(error):
            raise
        return True


def _of_target(watched: Watched, by_id: dict[UUID, str], by_bot: dict[UUID, dict[UUID, str]]) -> dict[UUID, str]:
    if watched.document_id is None:
        return by_bot[watched.bot_id]
    return {watched.document_id: by_id[watched.document_id]} if watched.document_id in by_id else {}


def _tell(watched: Watched, reader: _Reader, document: DocumentRead) -> None:
    is_final = DocumentStatus(document.status) in FINAL_STATUSES
    frame = b"event: document.updated\ndata: %b\n\n" % document.model_dump_json().encode()
    reader.tell(document.id, frame, last=is_final and watched.document_id is not None)


def _gone_frame(document_id: UUID, bot_id: UUID) -> bytes:
    gone = DocumentGone(id=document_id, bot_id=bot_id)
    return b"event: document.deleted\ndata: %b\n\n" % gone.model_dump_json().encode()
