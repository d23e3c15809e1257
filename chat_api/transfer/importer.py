"""Takes a file in: reads all of it, then stores all of it in one transaction, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.service import BotService
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.turns import PATIENCE_SECONDS, Turns
from chat_api.transfer.errors import ImportsBusy
from chat_api.transfer.export_statements import IMPORTED_AUTHOR
from chat_api.transfer.import_file import read_import
from chat_api.transfer.repository import TransferRepository, key_of
from chat_api.transfer.schemas import ImportedConversation, ImportOutcome, ImportReport
from chat_api.transfer.staging import Row, StagedConversation, Staging
from shared.logging import get_logger

log = get_logger("transfer")


class Person(Protocol):
    """Who imports: everything that is imported is theirs."""

    @property
    def id(self) -> UUID: ...

    @property
    def username(self) -> str: ...


class ImportProgress:
    """Hears how far it is: bytes that were read, then messages that were stored. This one does not care."""

    def read(self, size: int) -> None:
        """So many bytes more were read."""

    def stored(self, messages: int) -> None:
        """So many messages more were stored."""


class Importer:
    """One per process. A few files at once: each takes a core while it is read, and a connection while it is stored."""

    def __init__(self, clock: Clock, *, max_messages: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._clock = clock
        self._max_messages = max_messages
        self._turns = Turns(ImportsBusy, patience_seconds=patience_seconds)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """One's turn to import, for as long as the block lasts. Raises `ImportsBusy` where it does not come in time."""
        return self._turns.turn()

    @asynccontextmanager
    async def staged(self, path: Path, progress: ImportProgress | None = None) -> AsyncIterator[Staging]:
        """What is in a file, checked, beside it in its folder. Raises `InvalidImport`."""
        told = progress or ImportProgress()
        staging = Staging(path.parent, max_messages=self._max_messages)
        with staging:
            await _read(path, staging, self._max_messages, told.read)
            yield staging

    async def store(
        self, db: AsyncSession, person: Person, staging: Staging, progress: ImportProgress | None = None
    ) -> ImportReport:
        """Make a session of each conversation that the person has not imported before. The caller commits.

        No run starts and no event is told: what is imported was said elsewhere, and nobody follows it yet.
        """
        storing = _Storing(db, self._clock, person, staging, progress or ImportProgress())
        report = await storing.store()
        log.info("import.stored", user_id=str(person.id), sessions=report.imported, messages=report.messages)
        return report


class _NobodyWaits(Exception):
    pass


async def _read(path: Path, staging: Staging, max_messages: int, tell: Callable[[int], None]) -> None:
    """In a thread. Where nobody waits any more it ends soon, and before this does: its files are closed afterwards."""
    is_wanted = True

    def heard(size: int) -> None:
        if not is_wanted:
            raise _NobodyWaits
        tell(size)

    reading = asyncio.ensure_future(
        asyncio.to_thread(read_import, path, staging, max_messages=max_messages, tell=heard)
    )
    try:
        await asyncio.shield(reading)
    except asyncio.CancelledError:
        is_wanted = False
        await asyncio.gather(reading, return_exceptions=True)
        raise


class _Storing:
    def __init__(
        self, db: AsyncSession, clock: Clock, person: Person, staging: Staging, progress: ImportProgress
    ) -> None:
        self._repository = TransferRepository(db)
        self._bots = BotService(db, clock)
        self._person = person
        self._staging = staging
        self._progress = progress

    async def store(self) -> ImportReport:
        conversations = self._staging.conversations
        await self._repository.prepare(self._person.id)
        hashes = {conversation.content_hash for conversation in conversations}
        known = await self._repository.known_imports(self._person.id, hashes)
        told: list[ImportedConversation] = []
        for place, conversation in enumerate(conversations):
            session_id = known.get(key_of(conversation))
            outcome = ImportOutcome.ALREADY_THERE
            if session_id is None and conversation.messages == 0:
                outcome = ImportOutcome.EMPTY
            elif session_id is None:
                outcome = ImportOutcome.IMPORTED
                session_id = known[key_of(conversation)] = await self._store(conversation, place)
            told.append(
                ImportedConversation(
                    source=conversation.source,
                    source_id=conversation.source_id,
                    title=conversation.title,
                    outcome=outcome,
                    session_id=session_id,
                    messages=conversation.messages,
                    left_out=conversation.left_out,
                )
            )
        imported = [one for one in told if one.outcome is ImportOutcome.IMPORTED]
        return ImportReport(
            imported=len(imported),
            already_there=sum(one.outcome is ImportOutcome.ALREADY_THERE for one in told),
            messages=sum(one.messages for one in imported),
            conversations=told,
        )

    async def _store(self, conversation: StagedConversation, place: int) -> UUID:
        session, messages, revisions = await asyncio.to_thread(self._staging.read, conversation)
        session_id = new_id()
        bot_id = session.get("bot_id")
        if bot_id is not None and not await self._bots.is_visible(UUID(bot_id), self._person.id):
            session["bot_id"] = None
        await self._repository.add_session(
            session_id, self._person.id, session, messages=conversation.messages, place=place
        )
        ids: list[str] = []
        while batch := await asyncio.to_thread(next, messages, None):
            for row in batch:
                ids.append(str(new_id()))
                row["id"] = ids[-1]
                asked = row.pop("parent_seq")
                row["parent_id"] = None if asked is None else ids[asked - 1]
            await self._make_own(conversation, batch)
            await self._repository.add_messages(session_id, batch)
            self._progress.stored(len(batch))
        while batch := await asyncio.to_thread(next, revisions, None):
            await self._repository.add_revisions(session_id, batch)
        await self._repository.remember(self._person.id, conversation, session_id)
        return session_id

    async def _make_own(self, conversation: StagedConversation, batch: list[Row]) -> None:
        """Ids of here in place of those of the file: who wrote it, who reacted, which file it is."""
        named = {UUID(file["id"]) for row in batch for file in row.get("attachments", ())}
        files = await self._repository.readable_files(self._person.id, named)
        for row in batch:
            if row["role"] == "user":
                row["sender_id"] = str(self._person.id)
                author = row.get("author")
                # Without what the file has under that name itself.
                metadata = {name: value for name, value in row.get("metadata", {}).items() if name != IMPORTED_AUTHOR}
                if author is not None and author != self._person.username:
                    metadata[IMPORTED_AUTHOR] = author
                row["metadata"] = metadata
            if row.get("attachments"):
                kept = [
                    {name: value for name, value in files[wanted["id"]].items() if name != "sha256"}
                    for wanted in row["attachments"]
                    if wanted["id"] in files and wanted["sha256"] == files[wanted["id"]]["sha256"]
                ]
                conversation.left_out.attachments += len(row["attachments"]) - len(kept)
                row["attachments"] = kept
            if row.get("reactions"):
                given = sum(len(people) for people in row["reactions"].values())
                own = [emoji for emoji, people in row["reactions"].items() if self._person.username in people]
                conversation.left_out.reactions += given - len(own)
                row["reactions"] = {emoji: [str(self._person.id)] for emoji in own}
