"""Finds runs that nobody answers any more, and ends them or has them answered.

Every process that can answer runs does this, so any one of them is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from chat_api.config import ApiSettings
from chat_api.kit.db import is_store_down
from chat_api.plans.quotas import DayQuotas
from chat_api.runs.errors import RunInterrupted
from chat_api.runs.estimates import estimate, prompt_tokens, total
from chat_api.runs.events import CLOSING_EVENTS, FIRST_STREAMED_ID, RunEvent, cited, delta_at, terminal_type
from chat_api.runs.executor import RunExecutor
from chat_api.runs.models import RunStatus
from chat_api.runs.repository import Ending, Orphan, RunRepository
from chat_api.runs.streams import RunStreams
from chat_api.tools.expiry import ApprovalExpiry
from shared.contracts.chat import Usage
from shared.logging import get_logger

log = get_logger("runs.recovery")


class RunRecovery:
    def __init__(
        self,
        repository: RunRepository,
        streams: RunStreams,
        executor: RunExecutor,
        approvals: ApprovalExpiry,
        quotas: DayQuotas,
        settings: ApiSettings,
    ) -> None:
        self._repository = repository
        self._streams = streams
        self._executor = executor
        # Another name than the executor's: the answer to its claim may be so late that the lease has run out, and then
        # the two must not write beside each other.
        self._owner = f"{executor.owner}:recovery"
        self._approvals = approvals
        self._quotas = quotas
        self._settings = settings
        self._stopping = asyncio.Event()
        self._store_was_down = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(
                self._regularly(self._executor.beat, self._settings.run_heartbeat_seconds), name="run-heartbeat"
            ),
            asyncio.create_task(self._regularly(self.recover, self._settings.run_poll_seconds), name="run-recovery"),
        ]

    async def stop(self) -> None:
        """End the loops between two rounds: a statement that is cancelled half-way costs its connection."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _regularly(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while not self._stopping.is_set():
            await self._surviving(work)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()

    async def recover(self) -> None:
        """One round: take over what was orphaned, and start what waits without anybody knowing."""
        if self._store_was_down:
            await self._hear_who_lives()
        orphans = await self._repository.take_over(
            self._owner, self._settings.run_lease_seconds, self._executor.active_runs
        )
        for orphan in orphans:
            # One that cannot be settled must not keep the others waiting; its lease runs out again.
            await self._surviving(partial(self._settle, orphan))
        late = await self._approvals.expire()
        waiting = await self._repository.sessions_with_waiting_runs(self._settings.run_poll_seconds)
        for session_id in {*late, *waiting}:
            await self._surviving(partial(self._executor.start_next, session_id))

    async def _hear_who_lives(self) -> None:
        """After an outage every lease may have run out: let each holder renew its own before it counts as dead."""
        await self._repository.sessions_with_waiting_runs(self._settings.run_poll_seconds)  # raises if still down
        await asyncio.sleep(2 * self._settings.run_heartbeat_seconds)
        self._store_was_down = False

    async def _settle(self, orphan: Orphan) -> None:
        """End an orphan that has spoken; answer one that has not again, which nobody can notice."""
        lease = orphan.lease
        events = await self._streams.seal(lease.run_id)
        said = _said(events, orphan.content)
        # The log may be ahead of the last checkpoint, or gone: the longer one is what was said.
        content = said if len(said) >= len(orphan.content) else orphan.content
        spoke = len(content) > orphan.said_characters or bool(_cited(events))
        if orphan.cancelled:
            await self._end(orphan, RunStatus.CANCELLED, content, events)
        elif spoke or orphan.failures >= self._settings.run_attempts:
            await self._end(orphan, RunStatus.FAILED, content, events)
        else:
            if await self._repository.release(lease) and orphan.requested_by is not None:
                # Its model was asked. The run itself tells of the attempt that answers it.
                await self._quotas.add_tokens(orphan.requested_by, (await self._unheard(orphan, "")).total_tokens)
            log.info("run.requeued", run_id=str(lease.run_id), attempt=lease.attempt)
            await self._executor.start_next(lease.session_id)

    async def _end(self, orphan: Orphan, status: RunStatus, content: str, events: list[RunEvent]) -> None:
        lease = orphan.lease
        last_id = events[-1].id if events else (orphan.stream_position or FIRST_STREAMED_ID)
        ending = Ending(
            status=status,
            content=content,
            stream_length=last_id + CLOSING_EVENTS,
            error=RunInterrupted().as_json() if status is RunStatus.FAILED else None,
            usage=await self._usage(orphan, content),
            citations=_cited(events),
            called_tools=orphan.stream_position is not None,
            asked_provider=orphan.provider,
            asked_model=orphan.model,
        )
        ended = await self._repository.finish(lease, ending)
        if ended is None:
            return
        log.warning("run.recovered", run_id=str(lease.run_id), status=status.value)
        closing = [RunEvent(last_id + CLOSING_EVENTS, terminal_type(status), ended.run)]
        if ended.reply is not None:
            closing.insert(0, RunEvent(last_id + 1, "message.updated", ended.reply))
        # Without a log, what comes next follows what was there when the run was stored last.
        before = orphan.stream_position or FIRST_STREAMED_ID - 1
        await self._streams.conclude(lease.run_id, events[-1].id if events else before, closing)
        await self._executor.start_next(lease.session_id)

    async def _usage(self, orphan: Orphan, content: str) -> dict[str, Any]:
        """What was stored, and an estimate of what was used since: who could have told is dead."""
        earlier = None if orphan.usage is None else Usage.model_validate(orphan.usage)
        unheard = await self._unheard(orphan, content[orphan.said_characters :])
        return total(earlier, unheard).model_dump() | {"estimated": True}

    async def _unheard(self, orphan: Orphan, said: str) -> Usage:
        heard = await self._repository.history(
            orphan.lease.session_id, orphan.trigger_message_id, self._settings.history_messages
        )
        return estimate(
            prompt_tokens(text for exchange in heard for text in (exchange.content, exchange.answer) if text), said
        )

    async def _surviving(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            # The loop's boundary: the next round tries again.
            if is_store_down(error):
                self._store_was_down = True
                log.warning("recovery.store_down", error=type(error).__name__)
            else:
                log.exception("recovery.failed")


def _said(events: list[RunEvent], stored: str) -> str:
    """The reply as far as its pieces make it up. What was said before they are kept from is in what is `stored`."""
    text = ""
    for event in events:
        if event.type == "message.delta":
            offset, piece = delta_at(event.data)
            text = (text if len(text) >= offset else stored)[:offset] + piece
    return text


def _cited(events: list[RunEvent]) -> list[dict[str, Any]] | None:
    """What the reply was said to stand on; None where nothing was said of it."""
    said = [event for event in events if event.type == "message.citations"]
    return cited(said[-1].data) if said else None
