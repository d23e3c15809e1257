"""Calls of tools as a run stores them, without the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from chat_api.kit.models import new_id
from tests.factories.chat import ChatApi, Json, Person

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"url": {"type": "string", "maxLength": 100}, "token": {"type": "string"}, "times": {"enum": [1, 2]}},
    "required": ["url"],
    "additionalProperties": False,
}
ARGUMENTS: dict[str, Any] = {"url": "https://example.org/tides"}

_INSERT = """
    INSERT INTO chat.tool_executions (
        session_id, id, run_id, message_id, round, position, call_id, said_characters, tool_name, source, risk,
        repeatable, parameters, arguments, redacted_arguments, redact_result, status, result, passages, error,
        decided_by, expires_at
    ) VALUES (
        $1, $2, $3, $4, 1, $5::int, 'call_' || $5::int, 0, $6, $7, 'risky', false, $8::jsonb, $9::jsonb, $10, $11, $12,
        $13, jsonb_build_array('a secret passage'), $14::jsonb, $15, now() + $16::interval
    )
"""


class Rows(Protocol):
    """What statements are sent through: a running chat API, or its database."""

    async def rows(self, statement: str, *args: Any) -> list[Any]: ...


async def tool_call(
    chat: Rows,
    session_id: UUID,
    run_id: UUID,
    *,
    message_id: UUID | None = None,
    position: int = 0,
    status: str = "pending_approval",
    arguments: Json | None = None,
    tool_name: str = "fetch_url",
    source: str = "builtin",
    redacted: tuple[str, ...] = (),
    redact_result: bool = False,
    result: str | None = None,
    error: Json | None = None,
    decided_by: UUID | None = None,
    expires_in: timedelta | None = timedelta(days=1),
) -> UUID:
    """One execution. `expires_in` may be negative; None for one that nobody is asked about."""
    execution_id = new_id()
    await chat.rows(
        _INSERT,
        session_id,
        execution_id,
        run_id,
        message_id or new_id(),
        position,
        tool_name,
        source,
        PARAMETERS,
        ARGUMENTS if arguments is None else arguments,
        list(redacted),
        redact_result,
        status,
        result,
        error,
        decided_by,
        expires_in,
    )
    return execution_id


@dataclass
class WaitingRun:
    """A run that answers a message and waits for decisions on its calls."""

    session: Json
    id: UUID
    calls: list[UUID] = field(default_factory=list)

    @property
    def session_id(self) -> UUID:
        return UUID(self.session["id"])


async def waiting_run(
    chat: ChatApi,
    asker: Person,
    session: Json,
    *,
    calls: int = 1,
    status: str = "awaiting_approval",
    **fields: Any,
) -> WaitingRun:
    """`asker` says something in a session in which nobody answers by itself. `fields` are of every call."""
    said = await chat.said(asker, session, "How are the tides?")
    assert said["run"] is None, "the session answers by itself"
    run = WaitingRun(session, new_id())
    reply_id = new_id()
    await chat.rows(
        "INSERT INTO chat.runs (session_id, id, trigger_message_id, reply_message_id, status, attempt, pending_calls,"
        " lease_owner, lease_expires_at) VALUES ($1, $2, $3, $4, $5::text, 1, $6,"
        " CASE WHEN $5 = 'running' THEN 'somebody' END, CASE WHEN $5 = 'running' THEN now() + interval '1 hour' END)",
        run.session_id,
        run.id,
        UUID(said["message"]["id"]),
        reply_id,
        status,
        calls,
    )
    for position in range(calls):
        run.calls.append(
            await tool_call(chat, run.session_id, run.id, message_id=reply_id, position=position, **fields)
        )
    return run


async def run_row(chat: ChatApi, run: WaitingRun) -> Any:
    [row] = await chat.rows("SELECT * FROM chat.runs WHERE id = $1", run.id)
    return row


async def call_row(chat: ChatApi, execution_id: UUID) -> Any:
    [row] = await chat.rows("SELECT * FROM chat.tool_executions WHERE id = $1", execution_id)
    return row


async def tool_events(chat: ChatApi, run: WaitingRun) -> list[tuple[str, UUID]]:
    """Type and execution of every event of a tool in the session, which are checked to be without gaps."""
    rows = await chat.rows(
        "SELECT e.event_seq, e.type, e.tool_execution_id, s.last_event_seq FROM chat.session_events e"
        " JOIN chat.sessions s ON s.id = e.session_id WHERE e.session_id = $1 ORDER BY e.event_seq",
        run.session_id,
    )
    assert [row["event_seq"] for row in rows] == list(range(1, rows[0]["last_event_seq"] + 1))
    return [(row["type"], row["tool_execution_id"]) for row in rows if row["type"].startswith("tool.")]
