"""The SQL of people."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.users.errors import EmailTaken, UsernameTaken
from chat_api.users.models import EMAIL_INDEX, USERNAME_INDEX, User
from shared.problems import Problem

# Usernames are ASCII, so this comes after every name that begins with what stands before it.
_AFTER_EVERY_NAME = "\x7f"


class UserRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def save(self, user: User) -> None:
        """Write a new or a changed user. Raises `EmailTaken` or `UsernameTaken`, as the unique indexes say."""
        self._db.add(user)
        try:
            await self._db.flush()
        except IntegrityError as error:
            problem = _taken(error)
            if problem is None:
                raise
            raise problem from None

    async def get(self, user_id: UUID) -> User | None:
        return await self._db.get(User, user_id)

    async def lock(self, user_id: UUID) -> User | None:
        """The row as it is now, held until the unit of work ends. Rows that refer to it can still be written."""
        return await self._db.get(User, user_id, with_for_update={"key_share": True}, populate_existing=True)

    async def by_name(self, name: str) -> User | None:
        """By username or email address, in any case. A username has no `@`, an address always has."""
        column = User.email if "@" in name else User.username
        statement = select(User).where(func.lower(column) == func.lower(name))
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def page(self, *, prefix: str, after: str | None, limit: int) -> Sequence[User]:
        """Active people whose username begins with `prefix`, by username. A range of the unique index."""
        key = func.lower(User.username)
        statement = select(User).where(User.is_active).order_by(key).limit(limit)
        if prefix:
            statement = statement.where(key >= prefix.lower(), key < prefix.lower() + _AFTER_EVERY_NAME)
        if after is not None:
            statement = statement.where(key > after)
        return (await self._db.execute(statement)).scalars().all()


def _taken(error: IntegrityError) -> Problem | None:
    match getattr(getattr(error.orig, "__cause__", None), "constraint_name", None):
        case str(name) if name == EMAIL_INDEX:
            return EmailTaken()
        case str(name) if name == USERNAME_INDEX:
            return UsernameTaken()
        case _:
            return None
