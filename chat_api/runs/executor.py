"""Answers runs: claims one, asks the agent, passes on what it says, writes how it ended.

A run belongs to the process that holds its lease. A client that goes away changes nothing here. No
connection to the database is held while the model speaks.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

from chat_api.config import ApiSettings
from chat_api.kit.db import is_store_down
from chat_api.kit.models import new_id
from chat_api.plans.quotas import DayQuotas
from chat_api.runs.active import ActiveRun, Stop
from chat_api.runs.dialogue import Dialogue, LeaseLost
from chat_api.runs.errors import (
    BotUnavailable,
    DocumentsBeingDeleted,
    QuestionDeleted,
    RunBroken,
    RunInterrupted,
    RunTimedOut,
)
from chat_api.runs.events import CLOSING_EVENTS, FIRST_STREAMED_ID, terminal_type
from chat_api.runs.history import Exchange
from chat_api.runs.images import AttachedFiles
from chat_api.runs.models import RunStatus
from chat_api.runs.patience import patiently
from chat_api.runs.prompt import chat_request
from chat_api.runs.repository import Claim, Ended, Ending, Holder, RunRepository
from chat_api.runs.session_bot import Knowledge
from chat_api.runs.streams import RunStreams
from chat_api.sessions.related import RelatedContexts
from chat_api.sessions.schemas import RelatedContext
from chat_api.tools.errors import ApprovalExpired
from shared.contracts.knowledge import MAX_EXCLUDED
from shared.logging import get_logger, request_id_var
from shared.problems import Problem

log = get_logger("runs")

_GIVE_WAY_SECONDS = 0.1


class RunExecutor:
    """One per process. `owner` names this process in leases; it is new at every start."""

    def __init__(
        self,
        repository: RunRepository,
        streams: RunStreams,
        related: RelatedContexts,
        files: AttachedFiles,
        dialogue: Dialogue,
        quotas: DayQuotas,
        settings: ApiSettings,
    ) -> None:
        self.owner = uuid.uuid4().hex
        self._repository = repository
        self._streams = streams
        self._related = related
        self._files = files
        self._dialogue = dialogue
        self._quotas = quotas
        self._settings = settings
        self._active: dict[UUID, ActiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Also of runs that have ended, as long as they look for the next one."""
        self._accepting = True

    @property
    def active_count(self) -> int:
        return len(self._active)

    @property
    def active_runs(self) -> list[UUID]:
        return list(self._active)

    def vacancy(self) -> Holder | None:
        """Who may lease a run now: this process, or nobody while it is full or stopping."""
        if not self._accepting or len(self._active) >= self._settings.max_concurrent_runs:
            return None
        return Holder(self.owner, self._settings.run_lease_seconds, self._settings.history_messages)

    async def start_next(self, session_id: UUID) -> None:
        """Claim the session's next waiting run, if there is one and it is free, and answer it from here."""
        holder = self.vacancy()
        if holder is None:
            return
        claim = await self._repository.claim(session_id, holder, new_id())
        if claim is not None:
            await self.begin(claim)

    async def start_next_or_leave_it(self, session_id: UUID) -> None:
        """The same, for callers whose own work is stored: with the store away, the recovery loop starts it later."""
        try:
            await self.start_next(session_id)
        except Exception as error:
            if not is_store_down(error):
                raise

    async def begin(self, claim: Claim) -> None:
        """Answer a run that is leased to us."""
        other = self._active.get(claim.lease.run_id)
        if other is not None:
            # We froze past our own lease and got the run a second time: the later attempt alone may speak.
            if other.claim.lease.attempt >= claim.lease.attempt:
                return
            await self._give_way(other)
        stream = await self._streams.open(
            claim.lease.run_id, resumed=claim.lease.attempt > 1, at_least=claim.stream_position
        )
        if not self._accepting:
            # Leased while the drain began, which will not wait for it: another process answers it.
            await self._streams.retire(stream)
            await self._repository.release(claim.lease)
            return
        active = ActiveRun(claim, stream)
        self._active[claim.lease.run_id] = active
        active.task = asyncio.create_task(self._execute(active), name=f"run-{claim.lease.run_id}")
        self._tasks.add(active.task)
        active.task.add_done_callback(self._tasks.discard)

    async def _give_way(self, earlier: ActiveRun) -> None:
        earlier.interrupt(Stop.LEASE_LOST)
        while self._active.get(earlier.claim.lease.run_id) is earlier and earlier.task is not None:
            await asyncio.wait([earlier.task], timeout=_GIVE_WAY_SECONDS)

    def cancel(self, run_id: UUID) -> bool:
        """Stop a run that is answered here. Its reply keeps what was said."""
        active = self._active.get(run_id)
        if active is None:
            return False
        active.interrupt(Stop.CANCELLED)
        return True

    async def beat(self) -> None:
        """Renew our leases, store what was said so far, and hear who was cancelled or taken from us."""
        before = dict(self._active)
        if not before:
            return
        texts = {run_id: text for run_id, active in before.items() if (text := active.unstored_text()) is not None}
        attempts = {run_id: active.claim.lease.attempt for run_id, active in before.items()}
        held = await self._repository.heartbeat(self.owner, self._settings.run_lease_seconds, attempts, texts)
        for run_id, active in before.items():
            if run_id not in held:
                active.interrupt(Stop.LEASE_LOST)
            elif held[run_id]:
                active.interrupt(Stop.CANCELLED)

    async def drain(self, seconds: float) -> None:
        """Take no more runs; let those under way end within `seconds`, then give back or close the rest."""
        self._accepting = False
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for active in list(self._active.values()):
            active.interrupt(Stop.SHUTDOWN)
        remaining = list(self._tasks)
        if remaining:
            await asyncio.wait(remaining, timeout=2)
        for task in remaining:
            task.cancel()

    async def _execute(self, active: ActiveRun) -> None:
        lease = active.claim.lease
        active.begun = True
        try:
            ending = await (self._answer(active) if active.stop is None else self._stopped(active))
            if ending is not None:
                active.ending = True
                await self._end(active, ending)
        except Exception:
            # The task's boundary: the lease runs out, and the run is recovered.
            log.exception("run.abandoned", run_id=str(lease.run_id))
        finally:
            del self._active[lease.run_id]
            await self._streams.retire(active.stream)
        await self.start_next_or_leave_it(lease.session_id)

    async def _answer(self, active: ActiveRun) -> Ending | None:
        """Have the agent answer. None when the run is no longer ours to end."""
        problem: Problem | None = None
        if active.claim.cancelled:
            return self._ending(active, RunStatus.CANCELLED, None)
        if active.claim.expired:
            return self._ending(active, RunStatus.FAILED, ApprovalExpired())
        try:
            async with asyncio.timeout(self._settings.run_timeout_seconds):
                problem = await self._converse(active)
            if active.waits:
                return None
        except asyncio.CancelledError:
            return await self._stopped(active)
        except LeaseLost:
            log.warning("run.lease_lost", run_id=str(active.claim.lease.run_id))
            return None
        except TimeoutError:
            problem = RunTimedOut()
        except Problem as raised:
            problem = raised
        except Exception:
            # A fault of ours must end the run visibly, not hang it.
            log.exception("run.broken", run_id=str(active.claim.lease.run_id))
            problem = RunBroken()
        return self._ending(active, RunStatus.COMPLETED if problem is None else RunStatus.FAILED, problem)

    async def _stopped(self, active: ActiveRun) -> Ending | None:
        match active.stop:
            case Stop.CANCELLED:
                return self._ending(active, RunStatus.CANCELLED, None)
            case Stop.LEASE_LOST:
                log.warning("run.lease_lost", run_id=str(active.claim.lease.run_id))
                return None
            case Stop.SHUTDOWN | None:
                if active.has_spoken:
                    return self._ending(active, RunStatus.FAILED, RunInterrupted())
                await self._give_back(active)
                return None
            case _:
                assert_never(active.stop)

    async def _give_back(self, active: ActiveRun) -> None:
        """Have another process answer the run. What its model was asked here counts; the run tells of the rest."""
        claim, used = active.claim, active.usage or {}
        more = used.get("total_tokens", 0) - (claim.usage or {}).get("total_tokens", 0)
        if await self._repository.release(claim.lease) and claim.requested_by is not None:
            await self._quotas.add_tokens(claim.requested_by, more)

    async def _converse(self, active: ActiveRun) -> Problem | None:
        """Ask the agent until it speaks; returns the problem that it ended with."""
        claim = active.claim
        if active.stream.last_id < FIRST_STREAMED_ID or claim.resumes or active.stream.after_wait:
            active.stream.publish("run.started", claim.run)
        if active.stream.last_id == FIRST_STREAMED_ID:
            active.stream.publish("message.created", claim.reply)
        if claim.bot_id is not None and claim.bot is None:
            raise BotUnavailable
        if claim.waited and claim.lease.attempt == 1 and claim.requested_by is not None:
            requested_by = claim.requested_by
            await patiently(lambda: self._quotas.check_tokens(requested_by))
        limit = int(claim.settings.get("chat_history_length") or self._settings.history_messages)
        said = await self._history(claim, limit)
        if not said:
            raise QuestionDeleted
        async with self._files.room_for(said):
            keys = await patiently(lambda: self._files.keys(said))
            request = chat_request(
                claim,
                await self._files.shown(said, keys),
                limit=limit,
                knowledge=await self._knowledge(claim),
                related=await self._related_context(claim),
            )
            return await self._dialogue.hold(active, request)

    async def _history(self, claim: Claim, limit: int) -> Sequence[Exchange]:
        """What was said last, up to the question; nothing where that was deleted. Mostly it came with the claim."""
        if claim.history is not None and limit <= self._settings.history_messages:
            return claim.history[-limit:]
        return await patiently(
            lambda: self._repository.history(claim.lease.session_id, claim.trigger_message_id, limit)
        )

    async def _knowledge(self, claim: Claim) -> Knowledge | None:
        """What the bot's documents are; None where it asks the model alone.

        Raises `DocumentsBeingDeleted`: a deleted document must not be cited because there are too many of them.
        """
        bot = claim.bot
        if bot is None or not bot.looks_things_up:
            return None
        knowledge = await patiently(lambda: self._repository.knowledge(bot.id))
        if len(knowledge.deleted) > MAX_EXCLUDED:
            raise DocumentsBeingDeleted
        return knowledge

    async def _related_context(self, claim: Claim) -> RelatedContext | None:
        """What the linked session adds, as it is now; None where none is linked or the message wants none."""
        if claim.related_session_id is None:
            return None
        lease = claim.lease
        return await patiently(lambda: self._related.for_run(lease.session_id, lease.run_id))

    def _ending(self, active: ActiveRun, status: RunStatus, problem: Problem | None) -> Ending:
        return Ending(
            status=status,
            content=active.text,
            stream_length=active.stream.last_id + CLOSING_EVENTS,
            error=None if problem is None else problem.as_json(request_id_var.get()),
            usage=active.usage,
            provider=active.provider,
            model=active.model,
            latency_ms=active.latency_ms,
            time_to_first_token_ms=active.first_token_ms,
            citations=active.citations or None,
            called_tools=active.called_tools,
            asked_provider=active.claim.provider,
            asked_model=active.claim.model,
        )

    async def _end(self, active: ActiveRun, ending: Ending) -> None:
        lease = active.claim.lease
        ended = await patiently(lambda: self._repository.finish(lease, ending))
        if ended is None:
            ended = await self._ended_before(active, ending)
        if ended is None:
            log.warning("run.lease_lost", run_id=str(lease.run_id))
            return
        if ended.reply is not None:
            active.stream.publish("message.updated", ended.reply)
        active.stream.publish(terminal_type(ending.status), ended.run)
        code = None if ending.error is None else ending.error["code"]
        log.info("run.ended", run_id=str(lease.run_id), status=ending.status.value, code=code)

    async def _ended_before(self, active: ActiveRun, ending: Ending) -> Ended | None:
        """A commit whose answer was lost looks like a lost lease when it is tried again: tell them apart."""
        run_id = active.claim.lease.run_id
        return await patiently(lambda: self._repository.stands_as(run_id, ending.status, ending.stream_length))
