"""Reading the tool log, and deciding on what waits for a person."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, assert_never
from uuid import UUID

import orjson

from chat_api.kit.pagination import decode_cursor, encode_cursor
from chat_api.sessions.errors import SessionNotFound
from chat_api.tools.documents import REDACTED
from chat_api.tools.errors import (
    AlreadyDecided,
    ApprovalExpired,
    DecisionNotYours,
    ToolArgumentsInvalid,
    ToolExecutionNotFound,
)
from chat_api.tools.models import ToolStatus
from chat_api.tools.repository import Decided, ExecutionFilter, ToolRepository, Waiting
from shared.contracts.tools import MAX_ARGUMENT_BYTES, ToolVerdict
from shared.json_schema import schema_errors
from shared.logging import get_logger
from shared.problems import FieldError, ServiceUnavailable

log = get_logger("tools")

_TRIES = 10
"""Of a decision while others leave the session: each time it waits for several of them."""
_LONGEST_PLACE = 200
_TELLING = frozenset({"required", "schema"})
"""Kinds of errors whose words quote the schema alone. Those of the others quote the value, which may be secret."""


class RunStarter(Protocol):
    """Answers runs: a layer above this one."""

    async def start_next_or_leave_it(self, session_id: UUID) -> None: ...


class ToolLog:
    """The executions of the sessions that somebody takes part in, as JSON."""

    def __init__(self, repository: ToolRepository) -> None:
        self._repository = repository

    async def read(self, execution_id: UUID, user_id: UUID) -> bytes:
        """Raises `ToolExecutionNotFound`."""
        execution = await self._repository.visible(execution_id, user_id)
        if execution is None:
            raise ToolExecutionNotFound
        return execution

    async def page(
        self, session_id: UUID, user_id: UUID, wanted: ExecutionFilter, *, limit: int, cursor: str | None
    ) -> bytes:
        """A `ToolExecutionPage`, in the order in which the calls were made. Raises `SessionNotFound`."""
        after: UUID | None = None if cursor is None else decode_cursor(cursor, UUID)[0]
        found = await self._repository.page(session_id, user_id, wanted, limit=limit, after=after)
        if found is None:
            raise SessionNotFound
        items, last_id = found
        next_cursor = None if last_id is None else encode_cursor(last_id)
        return b'{"items":%b,"next_cursor":%b}' % (items, orjson.dumps(next_cursor))


class ToolDecisions:
    """Counts the first decision on an execution, and has its run go on when it was the last that the run waited for."""

    def __init__(self, repository: ToolRepository, starter: RunStarter) -> None:
        self._repository = repository
        self._starter = starter

    async def decide(
        self,
        execution_id: UUID,
        user_id: UUID,
        verdict: ToolVerdict,
        *,
        arguments: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> bytes:
        """The execution as decided. `arguments` replace the model's, for an approval; `reason` is for a rejection.

        Raises `ToolExecutionNotFound`, `DecisionNotYours`, `AlreadyDecided` (also for the same decision again),
        `ApprovalExpired` and `ToolArgumentsInvalid`; nothing is written then.
        """
        status = _status_of(verdict)
        if arguments is not None:
            arguments = await self._fitting(arguments, await self._open(execution_id, user_id))
        for _ in range(_TRIES):
            decided = await self._repository.decide(execution_id, user_id, status, arguments, reason)
            if decided is not None:
                return await self._go_on(execution_id, status, decided)
            await self._open(execution_id, user_id)  # raises, unless somebody left while it waited for the session
        raise ServiceUnavailable("Too many people are leaving the session. Nothing was changed; try again.")

    async def _go_on(self, execution_id: UUID, status: ToolStatus, decided: Decided) -> bytes:
        log.info(
            "tool.decided",
            execution_id=str(execution_id),
            run_id=str(decided.run_id),
            status=status.value,
            resumed=decided.resumed,
        )
        if decided.resumed:
            await self._starter.start_next_or_leave_it(decided.session_id)
        return decided.execution

    async def _open(self, execution_id: UUID, user_id: UUID) -> Waiting:
        """An execution that the person may decide on now. Raises why they may not."""
        waiting = await self._repository.waiting(execution_id, user_id)
        if waiting is None:
            raise ToolExecutionNotFound
        if not waiting.may_decide:
            raise DecisionNotYours
        if waiting.expired:
            raise ApprovalExpired
        if waiting.status is not ToolStatus.PENDING_APPROVAL:
            raise AlreadyDecided
        return waiting

    async def _fitting(self, arguments: dict[str, Any], waiting: Waiting) -> dict[str, Any]:
        """The arguments as they are run. Raises `ToolArgumentsInvalid`.

        What the log does not show comes back as it was shown: that means the model's own.
        """
        hidden = {name for name in waiting.redacted_arguments if name in waiting.arguments}
        kept = {name for name in hidden if arguments.get(name) == REDACTED}
        arguments = arguments | {name: waiting.arguments[name] for name in kept}
        if len(orjson.dumps(arguments)) > MAX_ARGUMENT_BYTES:
            raise _invalid([FieldError(loc=[], msg="May have 64 KiB of JSON at most", type="too_large")])
        # In a thread: what the check imports takes a tenth of a second, once.
        errors = await asyncio.to_thread(schema_errors, waiting.parameters, arguments)
        if errors:
            raise _invalid(errors)
        return arguments


def _status_of(verdict: ToolVerdict) -> ToolStatus:
    match verdict:
        case ToolVerdict.APPROVE:
            return ToolStatus.APPROVED
        case ToolVerdict.REJECT:
            return ToolStatus.REJECTED
        case _:
            assert_never(verdict)


def _invalid(errors: list[FieldError]) -> ToolArgumentsInvalid:
    return ToolArgumentsInvalid(
        errors=[
            FieldError(
                loc=["arguments", *(part[:_LONGEST_PLACE] if isinstance(part, str) else part for part in error.loc)],
                msg=error.msg if error.type in _TELLING | {"too_large"} else f"Does not fit `{error.type}`",
                type=error.type,
            )
            for error in errors
        ]
    )
