"""Counting everything again: the rows themselves, against the figures that are shown.

There should never be a difference. There is one where rows were written past the triggers (by hand, by a restore
without them), and once for what was there before figures were kept. A repair adds the difference to the days; what
changes meanwhile leaves its deltas, so nobody has to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.analytics.recount_statements import COMPLETE_RUNS, DIFFERENCES, REPAIRS
from chat_api.analytics.statements import FOLD_LOCK, TAKE_OUT_EMPTY
from chat_api.kit.db import Database
from chat_api.kit.outbox import Job, LeaseLost, settle
from shared.logging import get_logger

log = get_logger("analytics")

RECOUNT_TOPIC = "analytics.recount"
_RUNS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """What would have to be added to a day. `user_id` is None in the days of everybody."""

    day: date
    user_id: UUID | None
    subject: str
    provider: str
    name: str
    outcome: str
    number: int
    total_tokens: int


def _nobody(_: int) -> None:
    """For who does not want to hear how far it is."""


class Recount:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def differences(self, told: Callable[[int], None] = _nobody) -> list[Difference]:
        """Where the figures are not what the rows say, in one snapshot each for everybody and for people.

        `told` hears when each of the two is done.
        """
        found: list[Difference] = []
        for statement in DIFFERENCES.values():
            async with self._database.unit() as db:
                await _take_time(db)
                rows = (await db.execute(text(statement))).mappings().all()
            found.extend(_difference(row) for row in rows)
            told(1)
        return found

    async def repair(self, told: Callable[[int], None] = _nobody) -> int:
        """Make the figures what the rows say. Returns how many sums were changed."""
        changed = 0
        for statement in REPAIRS.values():
            async with self._database.unit() as db:
                await _take_time(db)
                await db.execute(text(FOLD_LOCK))
                changed += (await db.execute(text(statement))).scalar_one()
                for taking_out in TAKE_OUT_EMPTY:
                    await db.execute(text(taking_out))
            told(1)
        return changed

    async def complete_runs(self) -> int:
        """Give every run that knows neither who asked nor what it cost what its messages know of it.

        Returns how many were changed.
        """
        completed, last = 0, UUID(int=0)
        while True:
            async with self._database.unit() as db:
                row = (await db.execute(text(COMPLETE_RUNS), {"after": last, "most": _RUNS_AT_ONCE})).one()
            if row.last is None:
                return completed
            completed, last = completed + row.completed, row.last


def _difference(row: RowMapping) -> Difference:
    return Difference(
        day=row["day"],
        user_id=row.get("user_id"),
        subject=row["subject"],
        provider=row["provider"],
        name=row["name"],
        outcome=row["outcome"],
        number=row["number"],
        total_tokens=row["total_tokens"],
    )


async def _take_time(db: AsyncSession) -> None:
    """Every row is read: the time that a request may take is too short for many."""
    await db.execute(text("SET LOCAL statement_timeout = '1h'"))


class RecountJob:
    """Handles `analytics.recount`: what was there before figures were kept."""

    limit = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recount = Recount(database)

    async def run(self, job: Job) -> None:
        """What it does may be repeated."""
        completed = await self._recount.complete_runs()
        changed = await self._recount.repair()
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
        log.info("analytics.recounted", runs=completed, sums=changed)
