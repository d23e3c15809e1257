"""Typed doors to the statements: each is one snapshot."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from chat_api.analytics import statements as sql
from chat_api.analytics.session_statements import SESSION_STATISTICS
from chat_api.analytics.tally import Sum
from chat_api.kit.db import Database

_MONTH = timedelta(days=29)


class AnalyticsRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_person(self, user_id: UUID, first: date, last: date, *, by_day: bool) -> list[Sum]:
        statement = sql.MINE_BY_DAY if by_day else sql.MINE_BY_NAME
        return await self._sums(statement, first, last, user_id)

    async def of_everybody(self, first: date, last: date, *, by_day: bool) -> list[Sum]:
        """Also rows with the subject `active`: people of each day and, without a day, of all."""
        return await self._sums(sql.ALL_BY_DAY if by_day else sql.ALL_BY_NAME, first, last)

    async def of_people(self, first: date, last: date, limit: int) -> list[Sum]:
        """Of those who used the most tokens."""
        return await self._sums(sql.BY_USER, first, last, limit)

    async def standing(self, today: date) -> list[Sum]:
        """All days, and what there is now: subjects `user`, `bot`, `document`, `active`, and runs that are open."""
        return await self._sums(sql.EVERYTHING, today - _MONTH, today)

    async def of_session(self, session_id: UUID, user_id: UUID) -> bytes | None:
        """As JSON; None where the person does not take part in it."""
        return await self._database.fetch_json(SESSION_STATISTICS, session_id, user_id)

    async def _sums(self, statement: str, *arguments: Any) -> list[Sum]:
        return [_sum(row) for row in await self._database.fetch_rows(statement, *arguments)]


def _sum(row: asyncpg.Record) -> Sum:
    return Sum(**dict(row))
