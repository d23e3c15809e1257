"""What every admin page works with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.requests import Request

from chat_api.kit.clock import Clock
from chat_api.kit.db import Database, is_store_down
from shared.logging import get_logger
from shared.problems import ServiceUnavailable

log = get_logger("admin")

ADMIN = "colloquy.admin"
"""Where the scope of a request carries its `Admin`, once the sign-in is checked."""


@dataclass(frozen=True, slots=True)
class Admin:
    """An administrator who signed in to the pages."""

    id: UUID
    username: str


def admin_of(request: Request) -> Admin:
    admin: Admin = request.scope[ADMIN]
    return admin


class Desk:
    """Short units of work for pages: PostgreSQL away is a page that says so, and nothing is held while one is made."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.clock = clock

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[AsyncSession]:
        """Commits when the block ends. Raises as `asking` does."""
        async with self.asking(), self._database.unit() as db:
            yield db

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """For statements of a service's own. Raises `HTTPException` 503 where the store does not answer."""
        try:
            yield
        except Exception as error:
            if not is_store_down(error):
                raise
            log.warning("db.unavailable", error=type(error).__name__)
            raise HTTPException(ServiceUnavailable.status, ServiceUnavailable.detail) from error
