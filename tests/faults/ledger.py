"""What must be true of a session's rows, whatever was killed while they were written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

FINAL = ("completed", "failed", "cancelled")
Result = TypeVar("Result")
_BROKEN_CONNECTION = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,  # the server's last words were read, its end was not
)


class Ledger:
    """Reads as superuser. Waits for a PostgreSQL that is being restarted."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def rows(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        return await _patiently(lambda: self._pool.fetch(statement, *args))

    async def value(self, statement: str, *args: Any) -> Any:
        return await _patiently(lambda: self._pool.fetchval(statement, *args))

    async def runs(self, sessions: Sequence[str]) -> list[asyncpg.Record]:
        return await self.rows(
            "SELECT r.*, r.error ->> 'code' AS error_code, m.content AS reply, m.status AS reply_status"
            " FROM chat.runs r LEFT JOIN chat.messages m ON m.session_id = r.session_id AND m.id = r.reply_message_id"
            " WHERE r.session_id = ANY($1::uuid[]) ORDER BY r.created_at, r.id",
            [UUID(session) for session in sessions],
        )

    async def spoken(self, session: str, text: str = "", within: float = 30) -> None:
        """Return once a reply of the session is stored as far as `text`, or at all.

        That the model has sent its words does not mean that they have reached us.
        """
        async with asyncio.timeout(within):
            while not any(run["reply"] and run["reply"].startswith(text) for run in await self.runs([session])):
                await asyncio.sleep(0.02)

    async def all_ended(self, sessions: Sequence[str], within: float) -> list[asyncpg.Record]:
        """The runs of some sessions, once all have ended."""
        give_up_at = time.monotonic() + within
        while True:
            runs = await self.runs(sessions)
            waiting = [run for run in runs if run["status"] not in FINAL]
            if not waiting:
                return runs
            assert time.monotonic() < give_up_at, f"after {within} s not ended: {waiting}"
            await asyncio.sleep(0.1)

    async def assert_whole(self, session: str) -> None:
        """Numbers without gaps, one reply and one terminal event for each run, nothing half-done."""
        key = UUID(session)
        (row,) = await self.rows("SELECT * FROM chat.sessions WHERE id = $1", key)
        messages = await self.rows("SELECT * FROM chat.messages WHERE session_id = $1 ORDER BY seq", key)
        assert [message["seq"] for message in messages] == list(range(1, row["last_seq"] + 1))
        assert row["message_count"] == len(messages)
        events = await self.rows("SELECT * FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq", key)
        assert [event["event_seq"] for event in events] == list(range(1, row["last_event_seq"] + 1))
        assert not [message for message in messages if message["status"] == "streaming"]
        runs = await self.runs([session])
        answered = [message["id"] for message in messages if message["role"] == "user"]
        assert sorted(run["trigger_message_id"] for run in runs) == sorted(answered)
        for run in runs:
            replies = [
                message for message in messages if message["role"] == "assistant" and message["run_id"] == run["id"]
            ]
            assert [reply["id"] for reply in replies] == [run["reply_message_id"]]
            of_run = [event["type"] for event in events if event["run_id"] == run["id"]]
            assert of_run == ["run.started", "message.created", "message.updated", f"run.{run['status']}"]
            assert run["lease_owner"] is None

    async def assert_stored_once(self, session: str, acknowledged: Mapping[str, str]) -> None:
        """`acknowledged` is client id → message id: each is there, once, as it was acknowledged."""
        rows = await self.rows(
            "SELECT client_id, id FROM chat.messages WHERE session_id = $1 AND client_id IS NOT NULL", UUID(session)
        )
        assert sorted((row["client_id"], str(row["id"])) for row in rows) == sorted(acknowledged.items())


def assert_says(run: asyncpg.Record, expected: str) -> None:
    """A completed reply is whole, a failed one is how it began. Nothing of another reply, nothing twice."""
    match run["status"]:
        case "completed":
            assert run["reply_status"] == "complete"
            assert run["reply"] == expected
            assert run["error"] is None
        case "failed":
            assert run["reply_status"] == "failed"
            assert expected.startswith(run["reply"]), (run["reply"], expected)
            assert run["error"] is not None
        case _:
            raise AssertionError(f"nobody cancelled {run}")


async def _patiently(work: Callable[[], Awaitable[Result]]) -> Result:
    give_up_at = time.monotonic() + 30
    while True:
        try:
            return await work()
        except _BROKEN_CONNECTION:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(0.1)
