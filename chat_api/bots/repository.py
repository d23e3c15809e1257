"""Every statement about bots and their shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.models import Bot, BotShare, Visibility
from chat_api.bots.schemas import BotShareRead
from chat_api.kit.pagination import decode_cursor, encode_cursor
from chat_api.users.models import User

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


class BotSort(StrEnum):
    """A leading minus sorts from the latest to the earliest."""

    CREATED_DESC = "-created_at"
    CREATED = "created_at"


@dataclass(frozen=True, slots=True)
class BotFilter:
    visibility: Visibility | None
    text: str | None
    mine: bool


class BotRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def visible(self, bot_id: UUID, user_id: UUID, *, lock: bool = False) -> Bot | None:
        """A bot that the person may use. Locked, it cannot change before the unit ends; what refers to it can be
        written all the same.
        """
        query = select(Bot).where(Bot.id == bot_id, _usable_by(user_id))
        if lock:
            query = query.with_for_update(of=Bot, key_share=True)
        return (await self._db.execute(query)).scalar_one_or_none()

    def add(self, bot: Bot) -> None:
        self._db.add(bot)

    async def refresh(self, bot: Bot) -> None:
        """Write what changed and read what the database made of it."""
        await self._db.flush()
        await self._db.refresh(bot)

    async def page(
        self, user_id: UUID, wanted: BotFilter, sort: BotSort, *, limit: int, cursor: str | None
    ) -> tuple[list[Bot], str | None]:
        """One page of the bots that a person may use, and the cursor of the next.

        Each reason for which one may be used is a list of its own with an index of its own; a page needs no more of
        each than it shows.
        """
        lists = [
            _ordered(select(Bot.id, Bot.created_at).where(reason, *_conditions(wanted)), sort, cursor)
            .limit(limit + 1)
            .subquery()
            for reason in _reasons(user_id, wanted)
        ]
        found = union_all(*(select(one) for one in lists)).subquery()
        query = _ordered(select(Bot).join(found, found.c.id == Bot.id), sort, None)
        bots = list((await self._db.execute(query.limit(limit + 1))).scalars())
        if len(bots) <= limit:
            return bots, None
        return bots[:limit], encode_cursor(bots[limit - 1].created_at, bots[limit - 1].id)

    async def share(self, bot_id: UUID, user_id: UUID, moment: datetime) -> BotShare:
        """Let somebody use a bot. Once or twice, there is one share."""
        await self._db.execute(
            insert(BotShare).values(bot_id=bot_id, user_id=user_id, created_at=moment).on_conflict_do_nothing()
        )
        query = select(BotShare).where(BotShare.bot_id == bot_id, BotShare.user_id == user_id)
        return (await self._db.execute(query)).scalar_one()

    async def unshare(self, bot_id: UUID, user_id: UUID) -> bool:
        """Whether there was a share to take back."""
        statement = delete(BotShare).where(BotShare.bot_id == bot_id, BotShare.user_id == user_id)
        return (await self._db.execute(statement.returning(BotShare.user_id))).scalar_one_or_none() is not None

    async def shares(self, bot_id: UUID, *, limit: int, cursor: str | None) -> tuple[list[BotShareRead], str | None]:
        """One page of the people a bot is shared with, the first one first, and the cursor of the next."""
        query = (
            select(BotShare, User.username)
            .join(User, User.id == BotShare.user_id)
            .where(BotShare.bot_id == bot_id)
            .order_by(BotShare.created_at, BotShare.user_id)
        )
        if cursor is not None:
            query = query.where(
                tuple_(BotShare.created_at, BotShare.user_id) > tuple(decode_cursor(cursor, datetime, UUID))
            )
        rows = (await self._db.execute(query.limit(limit + 1))).all()
        items = [
            BotShareRead(user_id=share.user_id, username=username, created_at=share.created_at)
            for share, username in rows[:limit]
        ]
        return items, encode_cursor(items[-1].created_at, items[-1].user_id) if len(rows) > limit else None


def _is_shared_with(user_id: UUID) -> ColumnElement[bool]:
    return and_(
        Bot.visibility == Visibility.SHARED.value,
        Bot.id.in_(select(BotShare.bot_id).where(BotShare.user_id == user_id)),
    )


def _usable_by(user_id: UUID) -> ColumnElement[bool]:
    return and_(
        Bot.deleted_at.is_(None),
        or_(Bot.owner_id == user_id, Bot.visibility == Visibility.PUBLIC.value, _is_shared_with(user_id)),
    )


def _reasons(user_id: UUID, wanted: BotFilter) -> list[ColumnElement[bool]]:
    """Why a person may use a bot. Each bot has one reason only."""
    reasons = [Bot.owner_id == user_id]
    if wanted.mine:
        return reasons
    if wanted.visibility in (None, Visibility.SHARED):
        reasons.append(and_(Bot.owner_id != user_id, _is_shared_with(user_id)))
    if wanted.visibility in (None, Visibility.PUBLIC):
        reasons.append(and_(Bot.owner_id != user_id, Bot.visibility == Visibility.PUBLIC.value))
    return reasons


def _conditions(wanted: BotFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Bot.deleted_at.is_(None)]
    if wanted.visibility is not None:
        conditions.append(Bot.visibility == wanted.visibility.value)
    if wanted.text is not None:
        conditions.append(Bot.name.icontains(wanted.text, autoescape=True))
    return conditions


def _ordered(query: Query, sort: BotSort, cursor: str | None) -> Query:
    descending = sort is BotSort.CREATED_DESC
    if cursor is not None:
        key = tuple_(Bot.created_at, Bot.id)
        position = tuple(decode_cursor(cursor, datetime, UUID))
        query = query.where(key < position if descending else key > position)
    return query.order_by(*((Bot.created_at.desc(), Bot.id.desc()) if descending else (Bot.created_at, Bot.id)))
