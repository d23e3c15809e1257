"""A session as a stream of pieces, whatever its size: memory holds one batch, and no connection waits for a reader.

Every batch is read when the last one was taken. Messages that are sent meanwhile are left out; what is edited or
deleted meanwhile is as it is when its turn comes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, assert_never
from uuid import UUID

import asyncpg
import orjson

from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.sessions.errors import SessionNotFound
from chat_api.transfer import export_statements as sql
from chat_api.transfer.formats import (
    FORMAT,
    VERSION,
    ExportFormat,
    csv_head,
    csv_rows,
    markdown_head,
    markdown_messages,
)

_NOTHING = UUID(int=0)
"""Before every id."""


class ExportCutShort(Exception):
    """The reader takes part in the session no more, or it was deleted: the rest is not theirs to read.

    Raised in the middle of a stream. The connection breaks off, so that nobody takes the half for the whole.
    """


@dataclass(frozen=True, slots=True)
class ExportScope:
    """What is exported, and for whom.

    `reader_id` has to take part in the session, from the first piece to the last; None is for an operator. With
    `author_id` only that person's own messages are, and of the session no more than its id and, while the person takes
    part in it, its title.
    """

    session_id: UUID
    reader_id: UUID | None
    author_id: UUID | None = None


class SessionExport:
    """One session that was found, ready to be streamed, once. Made by `open_export`."""

    def __init__(
        self, database: Database, clock: Clock, scope: ExportScope, session: asyncpg.Record, tell: Callable[[int], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._scope = scope
        self._session = session
        self._tell = tell

    @property
    def title(self) -> str:
        title: str = self._session["title"]
        return title

    @property
    def last_seq(self) -> int:
        last_seq: int = self._session["last_seq"]
        return last_seq

    def pieces(self, kind: ExportFormat) -> AsyncGenerator[bytes]:
        match kind:
            case ExportFormat.JSON:
                return self.json()
            case ExportFormat.MARKDOWN:
                return self.markdown()
            case ExportFormat.CSV:
                return self.csv()
            case _:
                assert_never(kind)

    async def json(self) -> AsyncGenerator[bytes]:
        """All of it, in the format that can be imported. Raises `ExportCutShort`."""
        head = {"format": FORMAT, "version": VERSION, "exported_at": self._clock.now()}
        yield orjson.dumps(head, option=orjson.OPT_UTC_Z)[:-1] + b',"session":' + self._session["document"]
        yield b',"messages":['
        async for piece in self._documents(self._messages(sql.MESSAGES)):
            yield piece
        yield b'],"revisions":['
        async for piece in self._documents(self._revisions()):
            yield piece
        yield b"]}\n"

    async def markdown(self) -> AsyncGenerator[bytes]:
        yield markdown_head(self.title, self._session["created_at"])
        async for rows in self._messages(sql.MESSAGE_TEXTS, "seq"):
            yield markdown_messages(rows)

    async def csv(self) -> AsyncGenerator[bytes]:
        yield csv_head()
        async for rows in self._messages(sql.MESSAGE_TEXTS, "seq"):
            yield csv_rows(rows)

    async def whole(self, session: bytes) -> AsyncGenerator[bytes]:
        """The session with its history, runs and calls of tools, each as its own route shows it.

        `session` is the session itself, as JSON. Raises `ExportCutShort`.
        """
        yield b'{"session":' + session
        lists = {
            "messages": self._messages(sql.MESSAGES_AS_READ),
            "runs": self._by_id(sql.RUNS),
            "tool_executions": self._by_id(sql.TOOL_EXECUTIONS),
        }
        for name, batches in lists.items():
            yield b',"' + name.encode() + b'":['
            async for piece in self._documents(batches):
                yield piece
            yield b"]"
        yield b"}\n"

    async def _documents(self, batches: AsyncIterator[list[asyncpg.Record]]) -> AsyncGenerator[bytes]:
        """The items of a JSON array."""
        separator = b"\n"
        async for rows in batches:
            yield separator + b",\n".join(row["document"] for row in rows)
            separator = b",\n"

    async def _messages(self, statement: str, key: str = "key") -> AsyncGenerator[list[asyncpg.Record]]:
        scope, after = self._scope, 0
        while rows := await self._database.fetch_rows(
            statement, scope.session_id, after, scope.reader_id, self.last_seq, scope.author_id
        ):
            after = rows[-1][key]
            self._tell(len(rows))
            yield rows
        await self._check_reader()

    async def _revisions(self) -> AsyncGenerator[list[asyncpg.Record]]:
        scope, after, revision = self._scope, _NOTHING, 0
        while rows := await self._database.fetch_rows(
            sql.REVISIONS, scope.session_id, after, scope.reader_id, self.last_seq, scope.author_id, revision
        ):
            after, revision = rows[-1]["key"], rows[-1]["revision"]
            yield rows
        await self._check_reader()

    async def _by_id(self, statement: str) -> AsyncGenerator[list[asyncpg.Record]]:
        after: Any = _NOTHING
        while rows := await self._database.fetch_rows(statement, self._scope.session_id, after, self._scope.reader_id):
            after = rows[-1]["key"]
            yield rows
        await self._check_reader()

    async def _check_reader(self) -> None:
        """That there is no more is the end only for somebody who may still read."""
        if await self._database.fetch_row(sql.STILL_READS, self._scope.session_id, self._scope.reader_id) is None:
            raise ExportCutShort


def _unheard(_: int) -> None:
    pass


async def open_export(
    database: Database, clock: Clock, scope: ExportScope, *, tell: Callable[[int], None] = _unheard
) -> SessionExport:
    """Find the session. Raises `SessionNotFound`. `tell` hears how many messages each batch has."""
    if scope.author_id is None:
        found = await database.fetch_row(sql.SESSION, scope.session_id, scope.reader_id)
    else:
        found = await database.fetch_row(sql.VISITED_SESSION, scope.session_id, scope.author_id)
    if found is None:
        raise SessionNotFound
    return SessionExport(database, clock, scope, found, tell)


async def owned_sessions(database: Database, owner_id: UUID) -> AsyncGenerator[UUID]:
    """Ids of all sessions of one owner, the earliest first."""
    after: Any = _NOTHING
    while rows := await database.fetch_rows(sql.OWNED_SESSIONS, owner_id, after):
        after = rows[-1]["id"]
        for row in rows:
            yield row["id"]
