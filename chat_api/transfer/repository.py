"""Every statement that an import, or a copy of a session, is stored by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.transfer import import_statements as sql
from chat_api.transfer.errors import ImportInProgress
from chat_api.transfer.staging import Row, StagedConversation

_PATIENCE = text("SELECT set_config('statement_timeout', '60s', true), set_config('lock_timeout', :lock_timeout, true)")
_SESSIONS = text(sql.INSERT_SESSIONS)
_MESSAGES = text(sql.INSERT_STAGED)
_REVISIONS = text(sql.INSERT_REVISIONS)
_IMPORTS = text(sql.INSERT_IMPORTS)
_KNOWN = text(sql.KNOWN_IMPORTS).bindparams(bindparam("hashes", type_=ARRAY(BYTEA)))
_LOCK = text(sql.ONE_AT_A_TIME)
_FILES = text(sql.READABLE_FILES).bindparams(bindparam("ids", type_=ARRAY(Uuid())))

ImportKey = tuple[str, str, bytes]
"""Source, id there, hash of the content."""


class TransferRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def claim(self, user_id: UUID, *, patience_seconds: float) -> None:
        """Wait for the person's other import, and have the patience that many rows need. Raises `ImportInProgress`."""
        await self._db.execute(_PATIENCE, {"lock_timeout": f"{patience_seconds * 1000:.0f}ms"})
        try:
            await self._db.execute(_LOCK, {"user_id": user_id})
        except DBAPIError as error:
            if isinstance(getattr(error.orig, "__cause__", None), asyncpg.LockNotAvailableError):
                raise ImportInProgress from None
            raise

    async def known_imports(self, user_id: UUID, hashes: Collection[bytes]) -> dict[ImportKey, UUID]:
        """Which of these the person imported before, and into which session that they still take part in."""
        rows = await self._db.execute(_KNOWN, {"user_id": user_id, "hashes": list(hashes)})
        return {(row.source, row.source_id, row.content_hash): row.session_id for row in rows}

    async def add_sessions(self, owner_id: UUID, rows: Sequence[Row]) -> None:
        """Each with its `id`, the number of its `messages` and its `place` in lists, the first one first.

        Its owner is the only participant, and has read everything.
        """
        await self._db.execute(_SESSIONS, {"owner_id": owner_id, "rows": _json(rows)})

    async def add_messages(self, rows: Sequence[Row]) -> None:
        """Of any sessions; each row names its own."""
        await self._db.execute(_MESSAGES, {"rows": _json(rows)})

    async def add_revisions(self, rows: Sequence[Row]) -> None:
        await self._db.execute(_REVISIONS, {"rows": _json(rows)})

    async def remember(self, user_id: UUID, became: Sequence[tuple[StagedConversation, UUID]]) -> None:
        """Which session each conversation became."""
        rows = [
            {
                "source": conversation.source.value,
                "source_id": conversation.source_id,
                "content_hash": conversation.content_hash.hex(),
                "session_id": session_id,
            }
            for conversation, session_id in became
        ]
        await self._db.execute(_IMPORTS, {"user_id": user_id, "rows": _json(rows)})

    async def readable_files(self, user_id: UUID, ids: Collection[UUID]) -> dict[str, Mapping[str, Any]]:
        """Those that the person may read, by id, as a message shows them and with the `sha256` of their bytes."""
        if not ids:
            return {}
        rows = await self._db.execute(_FILES, {"user_id": user_id, "ids": list(ids)})
        return {
            str(row.id): {
                "id": str(row.id),
                "name": row.name,
                "content_type": row.content_type,
                "size_bytes": row.size_bytes,
                "sha256": row.sha256.hex(),
            }
            for row in rows
        }


def key_of(conversation: StagedConversation) -> ImportKey:
    return conversation.source.value, conversation.source_id, conversation.content_hash


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
