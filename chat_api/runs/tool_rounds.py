"""What a run's tools did, read and written: typed doors to `tool_statements.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from chat_api.runs import tool_statements as sql
from chat_api.runs.errors import OutcomeUnknown
from chat_api.runs.prices import PriceTable
from chat_api.runs.repository import Ended, Lease
from chat_api.sessions.hints import EventsAdded, SessionHints
from chat_api.tools.models import ToolStatus
from shared.contracts.tools import ToolCallEvent, ToolOutcome, ToolResultEvent
from shared.logging import get_logger

log = get_logger("runs")


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the agent is told of it. `arguments` are what it runs with; `model_arguments` the model's, if others.

    The reply had `said_characters` when it was made. `result` is what the tool said, `error` why it did not.
    """

    id: UUID
    round: int
    call_id: str
    said_characters: int
    tool_name: str
    repeatable: bool
    signature: str | None
    arguments: dict[str, Any]
    model_arguments: dict[str, Any] | None
    status: ToolStatus
    result: str | None
    passages: list[dict[str, Any]]
    error: dict[str, Any] | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A call that was written just now, and the event to tell of it."""

    call: Call
    event: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """A reply as far as it goes while its run waits. Times are in milliseconds."""

    content: str
    stream_length: int
    usage: dict[str, Any] | None
    provider: str
    model: str
    latency_ms: int | None
    time_to_first_token_ms: int | None


class ToolRounds:
    """Every method returns None where the lease was lost: nothing was written then.

    `attempts` is how often a call that may be repeated is begun; `approval_seconds` how long one waits for a decision.
    """

    def __init__(
        self, database: Database, hints: SessionHints, prices: PriceTable, *, attempts: int, approval_seconds: float
    ) -> None:
        self._database = database
        self._hints = hints
        self._prices = prices
        self._attempts = attempts
        self._approval_seconds = approval_seconds

    async def record(
        self, lease: Lease, number: int, calls: Sequence[ToolCallEvent], *, content: str, stream_position: int
    ) -> list[Changed] | None:
        """Store what the model asks for, before any of it happens: what nobody has to be asked about is running."""
        try:
            rows = await self._rows(
                lease,
                sql.RECORD_ROUND,
                [_stored(number, call) for call in calls],
                len(content),
                content,
                stream_position,
                self._approval_seconds,
            )
        except asyncpg.UniqueViolationError:
            # Stored before, by a commit whose answer was lost.
            log.warning("tools.recorded_twice", run_id=str(lease.run_id))
            rows = await self._rows(lease, sql.RECORDED, number)
            if [row["call_id"] for row in rows] != [event.call.id for event in calls]:
                return None
        return [Changed(_call(row), _first_event(row["status"]), row["document"]) for row in rows] or None

    async def settle(self, lease: Lease, *, lost: bool) -> tuple[list[Call], list[Changed]] | None:
        """All calls of the run, with what was approved running now; and those that changed.

        `lost` says that nobody hears any more what was running: that is run again if it may be, else it failed.
        """
        rows = await self._rows(lease, sql.SETTLE_ROUND, lost, self._attempts, OutcomeUnknown().as_json())
        if not rows:
            return None
        changed = [
            Changed(_call(row), "tool.started" if row["status"] == "running" else "tool.failed", row["document"])
            for row in rows
            if row["document"] is not None
        ]
        return [_call(row) for row in rows], changed

    async def store_result(self, lease: Lease, result: ToolResultEvent) -> Changed | None:
        """None also for a call that was not running."""
        succeeded = result.outcome is ToolOutcome.SUCCEEDED
        rows = await self._rows(
            lease,
            sql.STORE_RESULT,
            result.call_id,
            result.outcome.value,
            result.content if succeeded else None,
            [passage.model_dump(mode="json") for passage in result.passages],
            None if result.problem is None else result.problem.model_dump(mode="json", exclude_none=True),
            result.attempts,
            result.duration_ms,
        )
        if not rows:
            return None
        return Changed(_call(rows[0]), "tool.completed" if succeeded else "tool.failed", rows[0]["document"])

    async def pause(self, lease: Lease, pause: Pause) -> Ended | None:
        """Let the run wait, if anything of it does still. None also when nothing does, or somebody cancelled it."""
        rows = await self._rows(
            lease,
            sql.PAUSE,
            pause.usage,
            pause.stream_length,
            pause.content,
            pause.provider,
            pause.model,
            pause.latency_ms,
            pause.time_to_first_token_ms,
            self._prices.cost(pause.provider, pause.model, pause.usage),
        )
        return Ended(rows[0]["run"], rows[0]["reply"]) if rows else None

    async def _rows(self, lease: Lease, statement: str, *arguments: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._database.fetch_rows(
            statement, lease.session_id, lease.run_id, lease.attempt, lease.owner, *arguments
        )
        if rows:
            self._hints.tell(lease.session_id, EventsAdded(rows[0]["event_seq"]))
        return rows


def _stored(number: int, event: ToolCallEvent) -> dict[str, Any]:
    call = event.call
    return {
        "id": str(new_id()),
        "round": number,
        "position": event.index,
        "call_id": call.id,
        "tool_name": call.name,
        "source": event.source,
        "risk": event.risk.value,
        "repeatable": event.repeatable,
        "parameters": event.parameters,
        "signature": call.signature,
        "arguments": call.arguments,
        "redacted_arguments": event.redacted_arguments,
        "redact_result": event.redact_result,
        "error": None if event.problem is None else event.problem.model_dump(mode="json", exclude_none=True),
    }


def _first_event(status: str) -> str:
    """What is told of a call after its request, which somebody may have decided on already."""
    match ToolStatus(status):
        case ToolStatus.PENDING_APPROVAL | ToolStatus.APPROVED | ToolStatus.REJECTED:
            return "tool.approval_required"
        case ToolStatus.RUNNING:
            return "tool.started"
        case _:
            return "tool.failed"


def _call(row: Mapping[str, Any]) -> Call:
    return Call(
        id=row["id"],
        round=row["round"],
        call_id=row["call_id"],
        said_characters=row["said_characters"],
        tool_name=row["tool_name"],
        repeatable=row["repeatable"],
        signature=row["signature"],
        arguments=row["arguments"],
        model_arguments=row["model_arguments"],
        status=ToolStatus(row["status"]),
        result=row["result"],
        passages=row["passages"],
        error=row["error"],
        reason=row["reason"],
    )
