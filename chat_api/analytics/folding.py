"""Folding: what changed just now is added to the days, so that readers have little to add themselves."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.analytics.statements import FOLD, FOLD_LOCK, FORGET, TAKE_OUT_EMPTY
from chat_api.kit.db import Database
from shared.logging import get_logger

log = get_logger("analytics")

DELTAS_AT_ONCE = 20_000
"""In one transaction, which takes about half a second: after an hour without a worker there may be millions."""


async def fold(database: Database, *, most: int = DELTAS_AT_ONCE) -> int:
    """Fold all that is committed now, `most` at a time. Returns how many deltas there were."""
    folded = 0
    while True:
        async with database.unit() as db:
            number = await fold_some(db, most)
        folded += number
        if number < most:
            return folded


async def fold_some(db: AsyncSession, most: int) -> int:
    """Fold at most so many in the caller's unit of work. Waits for a fold that is under way."""
    await db.execute(text(FOLD_LOCK))
    number: int = (await db.execute(text(FOLD), {"most": most})).scalar_one()
    if number:
        for statement in TAKE_OUT_EMPTY:
            await db.execute(text(statement))
    return number


async def forget_person(db: AsyncSession, user_id: UUID) -> None:
    """Take a person out of all figures, in the caller's unit of work: what they did stays in those of everybody.

    Nothing of theirs may be left that counts, or it would be counted as theirs again: call it after that.
    """
    await db.execute(text(FOLD_LOCK))
    for statement in FORGET:
        await db.execute(text(statement), {"user_id": user_id})
