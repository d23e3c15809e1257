"""What people used today: a ledger that only grows, so that deleting something gives no quota back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from chat_api.kit.db import Database
from chat_api.plans.statements import TODAY

_USED = f"""
    SELECT u.plan, {TODAY} AS day,
        ({TODAY} + 1)::timestamp AT TIME ZONE 'UTC' AS resets_at,
        ceil(extract(epoch FROM ({TODAY} + 1)::timestamp AT TIME ZONE 'UTC' - now()))::bigint AS resets_in,
        coalesce(sum(d.messages), 0)::bigint AS messages, coalesce(sum(d.tokens), 0)::bigint AS tokens
    FROM chat.users u LEFT JOIN chat.user_days d ON d.user_id = u.id AND d.day = {TODAY}
    WHERE u.id = $1
    GROUP BY u.id
"""  # noqa: S608 - the day is a constant of ours
"""($1 person) → their plan as it is now, and what they used today. No row for somebody who is not there."""

_ADD_TOKENS = f"""
    INSERT INTO chat.user_days AS d (user_id, day, shard, tokens)
    SELECT u.id, {TODAY}, 1 + pg_backend_pid() % 15, $2 FROM chat.users u WHERE u.id = $1
    ON CONFLICT (user_id, day, shard) DO UPDATE SET tokens = d.tokens + excluded.tokens
"""  # noqa: S608 - the day is a constant of ours
"""($1 person, $2 tokens)"""

_FORGET = f"""
    WITH gone AS (DELETE FROM chat.user_days WHERE day < {TODAY} - $1::int RETURNING 1)
    SELECT count(*) AS rows FROM gone
"""  # noqa: S608 - the day is a constant of ours
"""($1 days to keep) → how many rows were forgotten."""


@dataclass(frozen=True, slots=True)
class DayUsed:
    """`plan` is the name that is stored. `resets_in` is in seconds."""

    plan: str
    day: date
    resets_at: datetime
    resets_in: int
    messages: int
    tokens: int


class Ledger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def today(self, user_id: UUID) -> DayUsed | None:
        """None for an account that is not there."""
        row = await self._database.fetch_row(_USED, user_id)
        return None if row is None else DayUsed(**row)

    async def add_tokens(self, user_id: UUID, tokens: int) -> None:
        """For what was used without a run. What runs use is counted by a trigger, with their end."""
        if tokens > 0:
            await self._database.fetch_rows(_ADD_TOKENS, user_id, tokens)

    async def forget(self, *, keep_days: int) -> int:
        """Delete what nobody asks for any more; returns how many rows."""
        row = await self._database.fetch_row(_FORGET, keep_days)
        return 0 if row is None else int(row["rows"])
