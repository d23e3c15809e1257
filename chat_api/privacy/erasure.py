"""The job that erases a person: everything of theirs in both schemas and in the storage, then the account.

Each step may be repeated, and the account goes last, so whatever is cut short begins again. It is tried for as long as
it takes. What other people said stays: where the person took part in their sessions, what they said becomes
tombstones, and nothing names them any more (`docs/privacy.md`).
"""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.analytics.folding import forget_person as forget_figures
from chat_api.attachments.service import PREFIX as ATTACHMENTS
from chat_api.audit.service import AuditLog
from chat_api.bots.purge import BotContents
from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.jobs import Postponed
from chat_api.kit.outbox import Job, LeaseLost, hold, settle
from chat_api.kit.storage import Storage, StorageUnavailable
from chat_api.privacy.repository import Erased, ErasureRepository
from chat_api.privacy.statements import OPEN_RUNS
from chat_api.runs.errors import RunFinished, RunNotFound
from chat_api.sessions.hints import EventsAdded, SessionGone, SessionHints
from chat_api.sessions.models import EventType
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("privacy.erasure")

ERASE_TOPIC = "account.erase"
"""Outbox: erase an account that was closed for it. The subject is the person; `stand_in` takes their id's place."""

_SESSIONS_AT_ONCE = 500
_ATTACHMENTS_AT_ONCE = 100
_FIRST = UUID(int=0)


class StillAnswering(Problem):
    """Runs end within seconds of being cancelled."""

    status = 409
    code = "still-answering"
    title = "A run has not ended yet"
    detail = "The assistant is still answering the person. Erasing goes on when it has stopped."


class RunCanceller(Protocol):
    async def cancel(self, run_id: UUID, user_id: UUID) -> bytes:
        """Stop a run. Raises `RunNotFound` and `RunFinished`."""
        ...


class EraseAccount:
    """Handles `account.erase`."""

    limit = None

    def __init__(
        self,
        database: Database,
        storage: Storage,
        collections: Collections,
        contents: BotContents,
        runs: RunCanceller,
        hints: SessionHints,
        clock: Clock,
    ) -> None:
        self._database = database
        self._storage = storage
        self._collections = collections
        self._contents = contents
        self._runs = runs
        self._hints = hints
        self._clock = clock

    async def run(self, job: Job) -> None:
        erased = await self._begin(job)
        if erased is None:
            return
        await self._stop_runs(erased)
        sessions = await self._delete_sessions(job, erased)
        rooms = await self._leave_rooms(job, erased)
        await self._remove_bots(job, erased)
        await self._remove_attachments(job, erased)
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            repository = ErasureRepository(db)
            await repository.take_time()
            await repository.lock_person(erased.user_id)
            audit = AuditLog(db, self._clock)
            await audit.forget(erased.user_id, erased.stand_in)
            await forget_figures(db, erased.user_id)
            await repository.forget_person(erased.user_id)
            await audit.record(
                None,
                "account.erased",
                subject_type="user",
                subject_id=erased.stand_in,
                details={"sessions_deleted": sessions, "rooms_left": rooms},
            )
        log.info("account.erased", stand_in=str(erased.stand_in), sessions=sessions, rooms=rooms)

    async def _begin(self, job: Job) -> Erased | None:
        """Take the bots away from everybody first, so that nothing more is quoted from them."""
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            repository = ErasureRepository(db)
            if await repository.lock_person(job.subject_id) is None:
                await settle(db, job)
                return None
            await repository.close_bots(job.subject_id)
            documents = await repository.documents(job.subject_id)
        return Erased(job.subject_id, UUID(job.payload["stand_in"]), documents)

    async def _stop_runs(self, erased: Erased) -> None:
        for row in await self._database.fetch_rows(OPEN_RUNS, erased.user_id):
            try:
                await self._runs.cancel(row["id"], row["owner_id"])
            except (RunNotFound, RunFinished):
                continue

    # -- sessions -----------------------------------------------------------------------------------------

    async def _delete_sessions(self, job: Job, erased: Erased) -> int:
        deleted = 0
        while True:
            async with self._database.unit() as db:
                repository = await self._held(db, job)
                found = await repository.alone(erased.user_id, _SESSIONS_AT_ONCE)
            if not found:
                return deleted
            for session_id in found:
                async with self._database.unit() as db:
                    repository = await self._held(db, job)
                    if await repository.delete_alone(session_id, erased.user_id):
                        await AuditLog(db, self._clock).forget(session_id, erased.stand_in)
                        self._hints.tell_after_commit(db, session_id, SessionGone())
                        deleted += 1

    async def _leave_rooms(self, job: Job, erased: Erased) -> int:
        """Look at every session there is: whoever left one may have said something in it."""
        after = _FIRST
        touched = 0
        is_busy = False
        while True:
            async with self._database.unit() as db:
                repository = await self._held(db, job)
                looked_at = await repository.look(erased, after, _SESSIONS_AT_ONCE)
            for session in looked_at:
                if session.is_touched:
                    touched += 1
                    is_busy |= not await self._leave_room(job, session.session_id, erased)
            if len(looked_at) < _SESSIONS_AT_ONCE:
                break
            after = looked_at[-1].session_id
        if is_busy:
            raise Postponed(StillAnswering())
        return touched

    async def _leave_room(self, job: Job, session_id: UUID, erased: Erased) -> bool:
        """Take the person out of one session. False when a run of theirs has not ended there."""
        async with self._database.unit() as db:
            repository = await self._held(db, job)
            session = await repository.lock_session(session_id)
            if session is None:
                return True
            if await repository.has_open_run(session_id, erased):
                return False
            now = self._clock.now()
            owned = session.owner_id == erased.user_id
            buried = await repository.entomb(session_id, erased, now)
            reacted = await repository.take_back_reactions(session_id, erased)
            changed = await repository.unname(session_id, erased, owned=owned)
            await repository.forget_in_snapshots(session_id, erased, now, owned=owned)
            fields = []
            if owned and await repository.hand_over(session_id, erased) is not None:
                fields += ["metadata", "owner_id", "settings", "system_prompt", "tags", "title"]
            if await repository.leave(session_id, erased):
                fields += ["participants"]
            events: list[tuple[EventType, UUID | None]] = [
                *((EventType.MESSAGE_DELETED, message) for message in buried),
                *((EventType.REACTION_UPDATED, message) for message in reacted),
                *((EventType.MESSAGE_UPDATED, message) for message in dict.fromkeys(changed)),
            ]
            if fields:
                events.append((EventType.SESSION_UPDATED, None))
            if events:
                number = await repository.append(session_id, events, _update(fields))
                if number is not None:
                    self._hints.tell_after_commit(db, session_id, EventsAdded(number))
        return True

    # -- bots and files -----------------------------------------------------------------------------------

    async def _remove_bots(self, job: Job, erased: Erased) -> None:
        async with self._database.unit() as db:
            bots = await (await self._held(db, job)).bots(erased.user_id)
        for bot_id in bots:
            try:
                await self._collections.delete_collection(bot_id)
            except (AgentUnavailable, AgentBrokeOff, AgentRefused) as problem:
                raise Postponed(problem) from None
            await self._contents.remove(job, bot_id)
            async with self._database.unit() as db:
                await (await self._held(db, job)).forget_bot(bot_id)
        async with self._database.unit() as db:
            await (await self._held(db, job)).forget_jobs_of(erased.documents)

    async def _remove_attachments(self, job: Job, erased: Erased) -> None:
        try:
            while True:
                async with self._database.unit() as db:
                    repository = await self._held(db, job)
                    found = await repository.attachments(erased.user_id, _ATTACHMENTS_AT_ONCE)
                if not found:
                    break
                for _, key in found:
                    await self._storage.delete(key)
                async with self._database.unit() as db:
                    repository = await self._held(db, job)
                    await repository.forget_attachments([attachment_id for attachment_id, _ in found])
            # Bytes without a row, of uploads that broke off.
            async for batch in self._storage.objects(f"{ATTACHMENTS}/{erased.user_id}"):
                for stored in batch:
                    await self._storage.delete(stored.key)
        except StorageUnavailable as problem:
            raise Postponed(problem) from None

    async def _held(self, db: AsyncSession, job: Job) -> ErasureRepository:
        if not await hold(db, job):
            raise LeaseLost
        repository = ErasureRepository(db)
        await repository.take_time()
        return repository


def _update(fields: list[str]) -> str:
    """Of a `session.updated` event that says which fields to read anew."""
    return orjson.dumps({"fields": sorted(fields), "changes": {}}).decode()
