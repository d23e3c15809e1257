"""Lists of things, page by page, by key: a page costs the same wherever it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from chat_api.kit.models import SCHEMA
from chat_api.kit.pagination import InvalidCursor, decode_cursor, encode_cursor

Condition = ColumnElement[bool]
AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a list. `condition` is its filter, `told` the same as text, to tell two filters apart."""

    text: str | None
    condition: Condition | None
    told: str
    sort: str
    descending: bool
    cursor: str | None
    limit: int

    @property
    def digest(self) -> str:
        """A cursor belongs to one order and one filter: with another one it starts again at the top."""
        return hashlib.sha256(repr((self.text, self.told, self.sort, self.descending)).encode()).hexdigest()[:12]

    def position(self, *kinds: type) -> list[Any] | None:
        """Where the page begins; None at the top, and for a cursor of another list."""
        if self.cursor is None:
            return None
        try:
            digest, *position = decode_cursor(self.cursor, str, *kinds)
        except InvalidCursor:
            return None
        return position if digest == self.digest else None


@dataclass(frozen=True, slots=True)
class Slice:
    """One page. `about` is how many there are in all, as PostgreSQL estimates it; None where that is not known."""

    rows: Sequence[AnyRow]
    next_cursor: str | None
    about: int | None = None


class Listing(Protocol):
    """`keys` are as the pages write them; one that is none, or of something that is gone, is left out."""

    async def page(self, db: AsyncSession, wanted: Wanted) -> Slice: ...

    async def find(self, db: AsyncSession, keys: Sequence[str]) -> Sequence[AnyRow]: ...


@dataclass(frozen=True)
class SortedBy:
    """An order that a list offers: a column that is never null. `label` is its name in the rows, where it differs."""

    column: InstrumentedAttribute[Any]
    label: str | None = None

    @property
    def kind(self) -> type:
        kind: type = self.column.type.python_type
        return kind


@dataclass(frozen=True)
class KeyedListing:
    """A list of one table's rows, whose key is a UUID. `searched` says what a search for a text means."""

    shown: AnySelect
    detailed: AnySelect
    key: InstrumentedAttribute[UUID]
    sorts: Mapping[str, SortedBy]
    searched: Callable[[str], Condition]

    async def page(self, db: AsyncSession, wanted: Wanted) -> Slice:
        order = self.sorts[wanted.sort]
        query = self.shown
        conditions = [] if wanted.condition is None else [wanted.condition]
        if wanted.text:
            conditions.append(self.searched(wanted.text))
        is_all = not conditions
        position = wanted.position(order.kind, UUID)
        if position is not None:
            place = tuple_(order.column, self.key)
            conditions.append(place < tuple(position) if wanted.descending else place > tuple(position))
        if conditions:
            query = query.where(and_(*conditions))
        by = (order.column, self.key)
        query = query.order_by(*(column.desc() if wanted.descending else column.asc() for column in by))
        rows = (await db.execute(query.limit(wanted.limit + 1))).all()
        last = rows[wanted.limit - 1] if len(rows) > wanted.limit else None
        return Slice(
            rows[: wanted.limit],
            None if last is None else encode_cursor(wanted.digest, getattr(last, order.label or wanted.sort), last.id),
            await estimate(db, self.key.class_.__tablename__) if is_all else None,
        )

    async def find(self, db: AsyncSession, keys: Sequence[str]) -> Sequence[AnyRow]:
        ids = [found for key in keys if (found := as_id(key)) is not None]
        return (await db.execute(self.detailed.where(self.key.in_(ids)))).all()


_ESTIMATE = text(
    """
    SELECT CASE WHEN reltuples >= 0 THEN reltuples::bigint END FROM pg_class
    WHERE oid = to_regclass(:name)
    """
)


async def estimate(db: AsyncSession, table: str) -> int | None:
    """How many rows a table has, as PostgreSQL's statistics say: counting a million of them takes too long."""
    found: int | None = (await db.execute(_ESTIMATE, {"name": f"{SCHEMA}.{table}"})).scalar_one_or_none()
    return found


def as_id(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
