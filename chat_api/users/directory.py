"""Finding other people."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.pagination import Page, decode_cursor, encode_cursor
from chat_api.users.repository import UserRepository
from chat_api.users.schemas import UserSummary


class UserDirectory:
    """What people may know of each other. Closed accounts are not in it."""

    def __init__(self, db: AsyncSession) -> None:
        self._users = UserRepository(db)

    async def page(self, *, prefix: str, cursor: str | None, limit: int) -> Page[UserSummary]:
        """By username. Raises `InvalidCursor`."""
        after: str | None = decode_cursor(cursor, str)[0] if cursor else None
        rows = await self._users.page(prefix=prefix, after=after, limit=limit + 1)
        items = [UserSummary.model_validate(row) for row in rows[:limit]]
        next_cursor = encode_cursor(items[-1].username.lower()) if len(rows) > limit else None
        return Page(items=items, next_cursor=next_cursor)

    async def find(self, user_id: UUID) -> UserSummary | None:
        user = await self._users.get(user_id)
        return UserSummary.model_validate(user) if user is not None and user.is_active else None
