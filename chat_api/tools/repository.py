"""Typed doors to the statements of `statements.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chat_api.kit.db import Database
from chat_api.sessions.hints import EventsAdded, SessionHints
from chat_api.tools import statements as sql
from chat_api.tools.models import ToolStatus


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a caller may know of an execution that they want to decide on. `expired`: nobody did in time."""

    may_decide: bool
    status: ToolStatus
    expired: bool
    parameters: dict[str, Any]
    arguments: dict[str, Any]
    redacted_arguments: list[str]


@dataclass(frozen=True, slots=True)
class Decided:
    """`resumed`: the run waits for nothing any more, and for somebody to answer it."""

    session_id: UUID
    run_id: UUID
    execution: bytes
    resumed: bool


@dataclass(frozen=True, slots=True)
class Expired:
    """A session in which calls waited too long. `event_seq` is its last event."""

    session_id: UUID
    event_seq: int


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    status: ToolStatus | None = None
    run_id: UUID | None = None


class ToolRepository:
    def __init__(self, database: Database, hints: SessionHints) -> None:
        self._database = database
        self._hints = hints

    async def visible(self, execution_id: UUID, user_id: UUID) -> bytes | None:
        return await self._database.fetch_json(sql.EXECUTION, execution_id, user_id)

    async def waiting(self, execution_id: UUID, user_id: UUID) -> Waiting | None:
        """None when there is no such execution, or the person does not take part in its session."""
        row = await self._database.fetch_row(sql.WAITING, execution_id, user_id)
        if row is None:
            return None
        return Waiting(
            may_decide=row["may_decide"],
            status=ToolStatus(row["status"]),
            expired=bool(row["expired"]),
            parameters=row["parameters"],
            arguments=row["arguments"],
            redacted_arguments=row["redacted_arguments"],
        )

    async def decide(
        self,
        execution_id: UUID,
        user_id: UUID,
        status: ToolStatus,
        arguments: dict[str, Any] | None,
        reason: str | None,
    ) -> Decided | None:
        """Store a decision, if it is the first and in time. None when refused; nothing was written then."""
        row = await self._database.fetch_row(sql.DECIDE, execution_id, user_id, status.value, arguments, reason)
        if row is None:
            return None
        self._hints.tell(row["session_id"], EventsAdded(row["event_seq"]))
        return Decided(row["session_id"], row["run_id"], row["document"], row["resumed"])

    async def expire(self, limit: int) -> list[Expired]:
        """Reject what nobody decided on in time, in `limit` sessions at most. Their runs are queued again."""
        rows = await self._database.fetch_rows(sql.EXPIRE, limit)
        expired = [Expired(row["session_id"], row["event_seq"]) for row in rows]
        for one in expired:
            self._hints.tell(one.session_id, EventsAdded(one.event_seq))
        return expired

    async def page(
        self, session_id: UUID, user_id: UUID, wanted: ExecutionFilter, *, limit: int, after: UUID | None
    ) -> tuple[bytes, UUID | None] | None:
        """Executions as a JSON array, the earliest first, and where to go on. None when the person takes no part."""
        status = None if wanted.status is None else wanted.status.value
        row = await self._database.fetch_row(sql.PAGE, session_id, user_id, after, status, wanted.run_id, limit)
        return None if row is None else (row["items"], row["last_id"])

    async def has_documents(self, bot_id: UUID) -> bool:
        row = await self._database.fetch_row(sql.HAS_DOCUMENTS, bot_id)
        assert row is not None
        has: bool = row["has_documents"]
        return has
