"""Random lives of people, and what there is to count of them, found without any statement of the figures."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from chat_api.analytics.histogram import BOUNDS_MS
from chat_api.kit.db import Database
from chat_api.kit.models import new_id

FIRST = date(2026, 1, 1)
LAST = FIRST + timedelta(days=3)
"""The days on which everything happens."""

_PEOPLE = 3


class Life:
    """Random things that happen to people, sessions, messages, runs and tools, statement by statement."""

    def __init__(self, store: Database, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self.people: list[UUID] = []
        self.sessions: list[UUID] = []
        self._seq = 0

    async def begin(self, people: list[UUID] | None = None) -> None:
        self.people = people or [new_id() for _ in range(_PEOPLE)]
        if people is None:
            for person in self.people:
                await self._do(
                    "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, $2, $2, '!')",
                    person,
                    person.hex,
                )
        await self.add_session()

    async def step(self) -> None:
        """Some more likely than others: most of what happens is that somebody says something."""
        await self._random.choice(
            [self.say] * 5
            + [self.start_run, self.end_run, self.end_run, self.change_run, self.call_tool, self.end_tool]
            + [self.delete_message, self.edit, self.lose_sender, self.archive, self.add_session]
            + [self.delete_run, self.clear, self.delete_session]
        )()

    async def _do(self, statement: str, *args: Any) -> None:
        await self._store.fetch_rows(statement, *args)

    def _session(self) -> UUID:
        return self._random.choice(self.sessions)

    def _moment(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._random.randrange(4 * 86_400))

    async def add_session(self) -> None:
        self.sessions.append(new_id())
        await self._do(
            "INSERT INTO chat.sessions (id, owner_id, title, created_at) VALUES ($1, $2, 'A', $3)",
            self.sessions[-1],
            self._random.choice(self.people),
            self._moment(),
        )

    async def archive(self) -> None:
        await self._do(
            "UPDATE chat.sessions SET status = CASE status WHEN 'active' THEN 'archived' ELSE 'active' END,"
            " last_seq = last_seq + 1 WHERE id = $1",
            self._session(),
        )

    async def say(self) -> None:
        self._seq += self._random.randrange(1, 1000)
        await self._do(
            "INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, created_at)"
            " SELECT $1, $2 + n, uuidv7(), CASE WHEN n = 0 THEN $5 ELSE 'assistant' END,"
            " CASE WHEN n = 0 THEN $3::uuid END, 'Hello', $4 FROM generate_series(0, 1) n"
            " WHERE EXISTS (SELECT FROM chat.sessions WHERE id = $1) ON CONFLICT DO NOTHING",
            self._session(),
            self._seq * 10_000 + self._random.randrange(9000),
            self._random.choice(self.people),
            self._moment(),
            self._random.choice(["user", "system"]),
        )

    async def _message(self, change: str) -> None:
        await self._do(
            f"UPDATE chat.messages SET {change} WHERE id IN (SELECT id FROM chat.messages WHERE session_id = $1"
            " ORDER BY seq LIMIT 2)",
            self._session(),
        )

    async def edit(self) -> None:
        await self._message("content = 'Good bye', edited_at = now()")

    async def delete_message(self) -> None:
        await self._message("content = '', deleted_at = now()")

    async def lose_sender(self) -> None:
        await self._message("sender_id = NULL")

    async def clear(self) -> None:
        session = self._session()
        await self._do("DELETE FROM chat.messages WHERE session_id = $1", session)
        await self._do("DELETE FROM chat.tool_executions WHERE session_id = $1", session)

    async def delete_session(self) -> None:
        if len(self.sessions) > 1:
            session = self._session()
            self.sessions.remove(session)
            await self._do("DELETE FROM chat.sessions WHERE id = $1", session)

    async def start_run(self) -> None:
        await self._do(
            "INSERT INTO chat.runs (session_id, id, trigger_message_id, requested_by, created_at, usage, finished_at)"
            " SELECT id, uuidv7(), uuidv7(), $2, $3, CASE WHEN $4 THEN '{\"total_tokens\": 3}'::jsonb END,"
            " CASE WHEN $4 THEN now() END FROM chat.sessions WHERE id = $1",
            self._session(),
            self._random.choice([*self.people, None]),
            self._moment(),
            self._random.random() < 0.2,
        )

    async def end_run(self) -> None:
        await self._run("status = 'queued'")

    async def change_run(self) -> None:
        await self._run("true")

    async def _run(self, which: str) -> None:
        usage = {"prompt_tokens": self._random.randrange(99), "completion_tokens": 4, "total_tokens": 110}
        status = self._random.choice(["completed", "completed", "failed", "cancelled"])
        await self._do(
            "UPDATE chat.runs SET status = $2, usage = $3::jsonb, provider = $4, model = $5, cost = $6,"
            " latency_ms = $7, time_to_first_token_ms = $8, finished_at = now()"
            f" WHERE id IN (SELECT id FROM chat.runs WHERE session_id = $1 AND {which} LIMIT 1)",
            self._session(),
            status,
            self._random.choice([usage, None]),
            self._random.choice(["openai", "local", None]),
            self._random.choice(["small", "large", None]),
            self._random.choice([Decimal("0.000000007"), Decimal("1.25"), None]),
            self._random.choice([0, 21, 850, self._random.randrange(10**7), None]),
            self._random.choice([1, 3, None]),
        )

    async def delete_run(self) -> None:
        await self._do(
            "DELETE FROM chat.runs WHERE id IN (SELECT id FROM chat.runs WHERE session_id = $1 LIMIT 2)",
            self._session(),
        )

    async def call_tool(self) -> None:
        await self._do(
            "INSERT INTO chat.tool_executions (session_id, id, run_id, message_id, requested_by, round, position,"
            " call_id, said_characters, tool_name, source, risk, repeatable, parameters, arguments, status,"
            " created_at, finished_at) SELECT session_id, uuidv7(), id, uuidv7(), requested_by, 1, 0, uuidv7()::text,"
            " 0, $2, 'builtin', 'safe', true, '{}', '{}', $3, created_at, CASE WHEN $3 = 'failed' THEN now() END"
            " FROM chat.runs WHERE session_id = $1 LIMIT 1",
            self._session(),
            self._random.choice(["clock", "calculator"]),
            self._random.choice(["running", "failed"]),
        )

    async def end_tool(self) -> None:
        await self._do(
            "UPDATE chat.tool_executions SET status = $2, duration_ms = $3, finished_at = now(), arguments = '{}'"
            " WHERE id IN (SELECT id FROM chat.tool_executions WHERE session_id = $1 LIMIT 2)",
            self._session(),
            self._random.choice(["succeeded", "timed_out", "rejected"]),
            self._random.choice([5, 70_000, None]),
        )


Key = tuple[Any, ...]


async def counted(store: Database, person: UUID | None) -> dict[Key, tuple[Any, ...]]:
    """What there is to count, found without any of the statements that are tested."""
    numbers: Counter[Key] = Counter()
    tokens: Counter[Key] = Counter()
    cost: dict[Key, Decimal] = {}
    times: dict[Key, Counter[int]] = {}

    def count(who: UUID | None, *key: str) -> bool:
        if person is None or who == person:
            numbers[key] += 1
            return True
        return False

    for row in await store.fetch_rows("SELECT owner_id, status FROM chat.sessions"):
        count(row["owner_id"], "session", "", row["status"], "")
    for row in await store.fetch_rows("SELECT sender_id, role FROM chat.messages WHERE deleted_at IS NULL"):
        count(row["sender_id"], "message", "", row["role"], "")
    for row in await store.fetch_rows("SELECT * FROM chat.runs WHERE finished_at IS NOT NULL"):
        key = ("run", row["provider"] or "", row["model"] or "", row["status"])
        if count(row["requested_by"], *key):
            tokens[key] += (row["usage"] or {}).get("total_tokens", 0)
            cost[key] = cost.get(key, Decimal(0)) + (row["cost"] or 0)
            if row["status"] == "completed" and row["latency_ms"] is not None:
                times.setdefault(key, Counter())[bisect_right(BOUNDS_MS, row["latency_ms"])] += 1
    for row in await store.fetch_rows("SELECT * FROM chat.tool_executions WHERE finished_at IS NOT NULL"):
        key = ("tool", row["source"], row["tool_name"], row["status"])
        if count(row["requested_by"], *key) and row["duration_ms"] is not None:
            times.setdefault(key, Counter())[bisect_right(BOUNDS_MS, row["duration_ms"])] += 1
    return {key: (numbers[key], tokens[key], cost.get(key, 0), dict(times.get(key, {}))) for key in numbers}
