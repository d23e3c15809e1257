"""Takes a file in: reads all of it, then stores all of it in one transaction, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.service import BotService
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.turns import PATIENCE_SECONDS, Turns
from chat_api.transfer.adoption import Adoption, Person
from chat_api.transfer.errors import ImportsBusy
from chat_api.transfer.import_file import read_import
from chat_api.transfer.repository import ImportKey, TransferRepository, key_of
from chat_api.transfer.schemas import ImportedConversation, ImportOutcome, ImportReport
from chat_api.transfer.staging import Batch, Staging
from shared.logging import get_logger

log = get_logger("transfer")

CLAIM_SECONDS = 10.0
"""How long an import waits, with a connection, until another of the same person is stored."""


class ImportProgress:
    """Hears how far it is: bytes that were read, then messages that were stored. This one does not care."""

    def read(self, size: int) -> None:
        """So many bytes more were read."""

    def stored(self, messages: int) -> None:
        """So many messages more were stored."""


class Importer:
    """One per process. A few files at once: each takes a core while it is read, and a connection while it is stored."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_messages: int,
        patience_seconds: float = PATIENCE_SECONDS,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._clock = clock
        self._max_messages = max_messages
        self._claim_seconds = claim_seconds
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

    async def claim(self, db: AsyncSession, person: Person) -> None:
        """Keep the person's other imports out until the unit of work ends. Raises `ImportInProgress`."""
        await TransferRepository(db).claim(person.id, patience_seconds=self._claim_seconds)

    async def store(
        self, db: AsyncSession, person: Person, staging: Staging, progress: ImportProgress | None = None
    ) -> ImportReport:
        """Make a session of each conversation that the person has not imported before.

        The caller has made its `claim`, and commits. No run starts and no event is told: what is imported was said
        elsewhere, and nobody follows it yet.
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


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of a conversation: what is told of it, and its session."""

    outcome: ImportOutcome
    session_id: UUID | None


class _Storing:
    def __init__(
        self, db: AsyncSession, clock: Clock, person: Person, staging: Staging, progress: ImportProgress
    ) -> None:
        self._repository = TransferRepository(db)
        self._bots = BotService(db, clock)
        self._visible_bots: dict[UUID, bool] = {}
        self._person = person
        self._staging = staging
        self._progress = progress

    async def store(self) -> ImportReport:
        hashes = {conversation.content_hash for conversation in self._staging.conversations}
        known = await self._repository.known_imports(self._person.id, hashes)
        # In threads, because each takes as long as several requests where there are many conversations.
        fates = await asyncio.to_thread(self._decide, known)
        new = {
            place: fate.session_id
            for place, fate in enumerate(fates)
            if fate.outcome is ImportOutcome.IMPORTED and fate.session_id is not None
        }
        adoption = Adoption(self._person, self._staging.conversations, new)
        batches = self._staging.batches(new)
        while batch := await asyncio.to_thread(next, batches, None):
            await self._store(batch, adoption)
        return await asyncio.to_thread(self._report, fates)

    def _decide(self, known: dict[ImportKey, UUID]) -> list[_Fate]:
        fates = []
        for conversation in self._staging.conversations:
            key = key_of(conversation)
            session_id = known.get(key)
            if session_id is not None:
                fates.append(_Fate(ImportOutcome.ALREADY_THERE, session_id))
            elif conversation.messages == 0:
                fates.append(_Fate(ImportOutcome.EMPTY, None))
            else:
                known[key] = session_id = new_id()
                fates.append(_Fate(ImportOutcome.IMPORTED, session_id))
        return fates

    async def _store(self, batch: Batch, adoption: Adoption) -> None:
        named = {UUID(file["id"]) for row in batch.messages for file in row.get("attachments", ())}
        files = await self._repository.readable_files(self._person.id, named)
        bots = {UUID(row["bot_id"]) for row in batch.sessions if row.get("bot_id") is not None}
        for bot_id in bots - self._visible_bots.keys():
            self._visible_bots[bot_id] = await self._bots.is_visible(bot_id, self._person.id)
        await asyncio.to_thread(adoption.adopt, batch, files, self._visible_bots)
        if batch.sessions:
            await self._repository.add_sessions(self._person.id, batch.sessions)
            began = [(self._staging.conversations[row["place"]], row["id"]) for row in batch.sessions]
            await self._repository.remember(self._person.id, began)
        if batch.messages:
            await self._repository.add_messages(batch.messages)
            self._progress.stored(len(batch.messages))
        if batch.revisions:
            await self._repository.add_revisions(batch.revisions)

    def _report(self, fates: Sequence[_Fate]) -> ImportReport:
        told = [
            ImportedConversation(
                source=conversation.source,
                source_id=conversation.source_id,
                title=conversation.title,
                outcome=fate.outcome,
                session_id=fate.session_id,
                messages=conversation.messages,
                left_out=conversation.left_out,
            )
            for conversation, fate in zip(self._staging.conversations, fates, strict=True)
        ]
        imported = [one for one in told if one.outcome is ImportOutcome.IMPORTED]
        return ImportReport(
            imported=len(imported),
            already_there=sum(one.outcome is ImportOutcome.ALREADY_THERE for one in told),
            messages=sum(one.messages for one in imported),
            conversations=told,
        )
