"""Every statement that an import, or a copy of a session, is stored by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.transfer import import_statements as sql
from chat_api.transfer.staging import Row, StagedConversation

_STATEMENT_TIMEOUT = "60s"

_SESSION = text(sql.INSERT_SESSION)
_MESSAGES = text(sql.INSERT_STAGED)
_REVISIONS = text(sql.INSERT_REVISIONS)
_IMPORT = text(sql.INSERT_IMPORT)
_KNOWN = text(sql.KNOWN_IMPORTS).bindparams(bindparam("hashes", type_=ARRAY(BYTEA)))
_LOCK = text(sql.ONE_AT_A_TIME)
_FILES = text(sql.READABLE_FILES).bindparams(bindparam("ids", type_=ARRAY(Uuid())))

ImportKey = tuple[str, str, bytes]
"""Source, id there, hash of the content."""


class TransferRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def prepare(self, user_id: UUID) -> None:
        """Wait for the person's other import, and have the patience that many rows need."""
        await self._db.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        await self._db.execute(_LOCK, {"user_id": user_id})

    async def known_imports(self, user_id: UUID, hashes: Collection[bytes]) -> dict[ImportKey, UUID]:
        """Which of these the person imported before, and into which session that they still take part in."""
        rows = await self._db.execute(_KNOWN, {"user_id": user_id, "hashes": list(hashes)})
        return {(row.source, row.source_id, row.content_hash): row.session_id for row in rows}

    async def add_session(self, session_id: UUID, owner_id: UUID, session: Row, *, messages: int, place: int) -> None:
        """With its owner as the only participant, who has read everything."""
        values = {"session_id": session_id, "owner_id": owner_id, "messages": messages, "place": place}
        await self._db.execute(_SESSION, {**values, "row": _json(session)})

    async def add_messages(self, session_id: UUID, rows: Sequence[Row]) -> None:
        await self._db.execute(_MESSAGES, {"session_id": session_id, "rows": _json(rows)})

    async def add_revisions(self, session_id: UUID, rows: Sequence[Row]) -> None:
        await self._db.execute(_REVISIONS, {"session_id": session_id, "rows": _json(rows)})

    async def remember(self, user_id: UUID, conversation: StagedConversation, session_id: UUID) -> None:
        source, source_id, content_hash = key_of(conversation)
        values = {"source": source, "source_id": source_id, "content_hash": content_hash}
        await self._db.execute(_IMPORT, {"user_id": user_id, "session_id": session_id, **values})

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
