"""Does what the outbox holds: claims, keeps the lease, tries again later, gives up in the open.

Who says which entry is next is not its business (`kit.queue` does), and what it hears twice or too late does no
harm: only the claim counts.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chat_api.config import ApiSettings
from chat_api.kit.db import is_store_down
from chat_api.kit.outbox import Job, Jobs, LeaseLost
from shared.logging import get_logger, request_id_var
from shared.problems import Problem, ProblemDocument, ServiceUnavailable

log = get_logger("jobs")

_LONGEST_PAUSE_SECONDS = 60.0


class Postponed(Exception):
    """What is in the way may pass by itself: another attempt may succeed. `after` is the least pause, in seconds."""

    def __init__(self, problem: Problem, *, after: float = 0) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.after = after


class WorkerStopped(Problem):
    """What is said of a job whose workers died with it, each time."""

    status = 500
    code = "worker-stopped"
    title = "The worker stopped"
    detail = "The worker ended in the middle of this, each time it was tried."


class JobFailed(Problem):
    """A mistake of ours. The log has the rest."""

    status = 500
    code = "job-failed"
    title = "The work failed"
    detail = "Something went wrong on our side."


@dataclass(frozen=True, slots=True)
class Limit:
    """How often a job is started, and what is done then: settle it as failed, where people see it.

    `give_up` gets the problem that was in the way last.
    """

    attempts: int
    give_up: Callable[[Job, ProblemDocument], Awaitable[None]]


class JobHandler(Protocol):
    """Does one kind of job. Each result is written in the unit that settles the job, and what it does may repeat."""

    @property
    def limit(self) -> Limit | None:
        """None: it is tried for as long as it takes."""
        ...

    async def run(self, job: Job) -> None:
        """Do the job and settle it. Raises `Postponed`, and `LeaseLost` when it is somebody else's by now."""
        ...


def pause_seconds(attempt: int) -> float:
    """1, 2, 4, 8 … at most 60: short at first, because what restarts is back in seconds."""
    return float(min(2 ** min(attempt - 1, 10), _LONGEST_PAUSE_SECONDS))


class JobRunner:
    """Runs as many jobs at once as it has `slots`. `handlers` is topic → what does it."""

    def __init__(self, jobs: Jobs, handlers: Mapping[str, JobHandler], settings: ApiSettings, *, slots: int) -> None:
        self._jobs = jobs
        self._handlers = handlers
        self._lease_seconds = settings.job_lease_seconds
        self._heartbeat_seconds = settings.job_heartbeat_seconds
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.slots = slots
        self._free = asyncio.Semaphore(slots)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._handlers)

    @property
    def running_count(self) -> int:
        return len(self._running)

    async def run(self, entry_id: UUID) -> None:
        """Do one entry, if it is due. Cancelling the caller does not cancel the job: only `stop` does."""
        if self._stopping:
            return
        task = asyncio.create_task(self._claim_and_do(entry_id), name=f"job-{entry_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    async def stop(self, seconds: float) -> None:
        """Begin nothing more, let what runs end within `seconds`, then give the leases of the rest back."""
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        rest = list(self._running)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _claim_and_do(self, entry_id: UUID) -> None:
        async with self._free:
            if self._stopping:
                return
            job = None
            with _store_may_be_away("job.not_claimed", entry_id):
                job = await self._jobs.claim(entry_id, self._owner, self._lease_seconds)
            if job is not None:
                request_id_var.set(job.request_id)
                await self._do(job)

    async def _do(self, job: Job) -> None:
        handler = self._handlers[job.topic]
        log.info("job.started", topic=job.topic, subject_id=str(job.subject_id), attempt=job.attempt)
        work = asyncio.create_task(self._attempt(handler, job))
        heart = asyncio.create_task(self._beat(job, work))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            await asyncio.shield(self._give_back(job, 0))
            raise
        finally:
            heart.cancel()
            await asyncio.wait({heart})

    async def _beat(self, job: Job, work: asyncio.Task[None]) -> None:
        """Renew the lease while the work goes on, and stop the work once the lease is somebody else's."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            # Without PostgreSQL nobody else can claim it either; the next beat tries again.
            with _store_may_be_away("job.heartbeat_failed", job.id):
                if not await self._jobs.extend(job):
                    work.cancel()
                    return

    async def _attempt(self, handler: JobHandler, job: Job) -> None:
        try:
            # What could not be written now is not lost: the lease runs out, and the entry is due again.
            with _store_may_be_away("job.not_settled", job.id):
                await self._do_or_give_up(handler, job)
        except (LeaseLost, asyncio.CancelledError):
            log.info("job.left", topic=job.topic, subject_id=str(job.subject_id), attempt=job.attempt)

    async def _do_or_give_up(self, handler: JobHandler, job: Job) -> None:
        limit = handler.limit
        if limit is not None and job.attempt > limit.attempts:
            # Its last attempt ended with its worker, so nobody gave it up yet.
            await self._give_up(limit, job, _last_problem(job))
            return
        try:
            await handler.run(job)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - the runner's boundary: one job must not end the others
            postponed = _postponed(job, error)
            problem = postponed.problem.document()
            if limit is not None and job.attempt >= limit.attempts:
                await self._give_up(limit, job, problem)
                return
            seconds = max(pause_seconds(job.attempt), postponed.after)
            log.warning(
                "job.postponed", topic=job.topic, subject_id=str(job.subject_id), code=problem.code, seconds=seconds
            )
            await self._jobs.retry(job, seconds, problem.model_dump(exclude_none=True))

    async def _give_up(self, limit: Limit, job: Job, problem: ProblemDocument) -> None:
        log.error("job.given_up", topic=job.topic, subject_id=str(job.subject_id), code=problem.code)
        await limit.give_up(job, problem)

    async def _give_back(self, job: Job, seconds: float) -> None:
        with _store_may_be_away("job.not_given_back", job.id):
            await self._jobs.retry(job, seconds)
            log.info("job.given_back", topic=job.topic, subject_id=str(job.subject_id))


def _postponed(job: Job, error: Exception) -> Postponed:
    if isinstance(error, Postponed):
        return error
    if is_store_down(error):
        return Postponed(ServiceUnavailable())
    log.error("job.failed", topic=job.topic, subject_id=str(job.subject_id), exc_info=error)
    return Postponed(JobFailed())


def _last_problem(job: Job) -> ProblemDocument:
    noted = job.last_problem
    return WorkerStopped().document() if noted is None else ProblemDocument.model_validate(noted)


@contextmanager
def _store_may_be_away(event: str, entry_id: UUID) -> Iterator[None]:
    """Log what is raised inside, and go on: leases and entries put everything right by themselves."""
    try:
        yield
    except LeaseLost:
        raise
    except Exception as error:
        if is_store_down(error):
            log.warning(event, job_id=str(entry_id), error=type(error).__name__)
        else:
            log.exception(event, job_id=str(entry_id))
