"""Ends the wait for decisions that nobody made in time."""

from __future__ import annotations

from uuid import UUID

from chat_api.kit.db import Database
from chat_api.sessions.hints import SessionHints
from chat_api.tools.repository import ToolRepository

_AT_ONCE = 100


class ApprovalExpiry:
    def __init__(self, database: Database, hints: SessionHints) -> None:
        self._repository = ToolRepository(database, hints)

    async def expire(self) -> list[UUID]:
        """Reject what is late. The sessions whose runs are to be claimed, to end; 100 at most, the others next time."""
        return [expired.session_id for expired in await self._repository.expire(_AT_ONCE)]
