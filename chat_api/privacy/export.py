"""Everything of one person as one zip, streamed: memory holds one batch, and no connection waits for the reader.

Each batch is read when the last one was taken, so the archive is of the minutes in which it was made.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.file_names import clean_name
from chat_api.kit.storage import BytesMissing, Storage
from chat_api.privacy import export_statements as sql
from chat_api.privacy.archive import ArchiveStream
from chat_api.privacy.errors import ExportsBusy
from chat_api.sessions.errors import SessionNotFound
from chat_api.transfer.export import ExportCutShort, ExportScope, open_export
from shared.logging import get_logger
from shared.problems import NotAuthenticated

log = get_logger("privacy.export")

FORMAT = "colloquy.account"
VERSION = 1

_FIRST = UUID(int=0)
_ABOUT = b"""Everything of one account.

profile.json, usage.json and the other lists at the top speak for themselves. sessions/ has the sessions that you own,
as they can be imported again, and tools/ what the assistant did in them. rooms/ has what you said in sessions of
others. documents/ and attachments/ have the bytes of your files, by their ids. snapshots/ has the copies that you kept.
manifest.json lists every file with its SHA-256, and what could not be found.
"""


class AccountExport:
    """One account that was found, ready to be streamed, once. Made by `open_account_export`."""

    def __init__(self, database: Database, storage: Storage, clock: Clock, user_id: UUID, profile: bytes) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock
        self._user_id = user_id
        self._profile = profile
        self._made_at = clock.now()
        self._archive = ArchiveStream(self._made_at)
        self._missing: list[str] = []

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes of the archive. What it raises in the middle leaves the reader with one that does not open."""
        for part in (self._about, self._lists, self._files, self._sessions, self._snapshots, self._visited):
            async with aclosing(part()) as pieces:
                async for piece in pieces:
                    yield piece
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "made_at": self._made_at,
            "user_id": str(self._user_id),
            "files": self._archive.listing(),
            "missing": self._missing,
        }
        written = orjson.dumps(manifest, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2)
        async for piece in self._archive.add("manifest.json", _once(written)):
            yield piece
        yield self._archive.end()
        log.info("account.exported", user_id=str(self._user_id), files=len(self._archive.files))

    async def _about(self) -> AsyncGenerator[bytes]:
        for name, content in (("README.txt", _ABOUT), ("profile.json", self._profile)):
            async for piece in self._archive.add(name, _once(content)):
                yield piece

    async def _lists(self) -> AsyncGenerator[bytes]:
        for name, statement in sql.LISTS.items():
            async for piece in self._archive.add(f"{name}.json", _array(self._rows(statement, self._user_id))):
                yield piece
        for name, statement in (("usage", sql.USAGE), ("imports", sql.IMPORTS)):
            found = await self._database.fetch_json(statement, self._user_id)
            async for piece in self._archive.add(f"{name}.json", _once(found or b"[]")):
                yield piece

    async def _files(self) -> AsyncGenerator[bytes]:
        for folder, statement in (("documents", sql.DOCUMENTS), ("attachments", sql.ATTACHMENTS)):
            async for piece in self._archive.add(f"{folder}.json", _array(self._rows(statement, self._user_id))):
                yield piece
            async for rows in self._rows(statement, self._user_id):
                for row in rows:
                    async for piece in self._stored(folder, row):
                        yield piece

    async def _stored(self, folder: str, row: asyncpg.Record) -> AsyncGenerator[bytes]:
        name = f"{folder}/{row['key']}/{clean_name(row['name']) or 'file'}"
        try:
            content = await self._storage.read(row["storage_key"])
        except BytesMissing:
            self._missing.append(name)
            return
        async with aclosing(content):
            async for piece in self._archive.add(name, content, compress=False):
                yield piece

    async def _sessions(self) -> AsyncGenerator[bytes]:
        async for rows in self._rows(sql.SESSIONS, self._user_id):
            for row in rows:
                scope = ExportScope(row["key"], reader_id=self._user_id)
                async for piece in self._session(f"sessions/{row['key']}.json", scope):
                    yield piece
                async for piece in self._tools(row["key"]):
                    yield piece

    async def _session(self, name: str, scope: ExportScope) -> AsyncGenerator[bytes]:
        try:
            found = await open_export(self._database, self._clock, scope)
        except SessionNotFound:
            return  # deleted since it was listed
        try:
            async for piece in self._archive.add(name, found.json()):
                yield piece
        except ExportCutShort:
            # Deleted in the middle: what was written of it cannot be taken back, and is said to be no whole.
            self._missing.append(name)

    async def _tools(self, session_id: UUID) -> AsyncGenerator[bytes]:
        rows = self._rows(sql.TOOL_EXECUTIONS, session_id)
        first = await anext(rows, None)
        if first is not None:
            async for piece in self._archive.add(f"tools/{session_id}.json", _array(rows, first)):
                yield piece

    async def _snapshots(self) -> AsyncGenerator[bytes]:
        async for rows in self._rows(sql.SNAPSHOTS, self._user_id):
            for row in rows:
                async for piece in self._archive.add(f"snapshots/{row['key']}.json", self._snapshot(row)):
                    yield piece

    async def _snapshot(self, row: asyncpg.Record) -> AsyncGenerator[bytes]:
        yield row["document"].rstrip()[:-1] + b',"messages":'
        messages = self._rows(sql.SNAPSHOT_MESSAGES, row["key"], self._user_id, after=0)
        async for piece in _array(messages):
            yield piece
        yield b"}\n"

    async def _visited(self) -> AsyncGenerator[bytes]:
        reactions: list[bytes] = []
        async for rows in self._rows(sql.VISITED, self._user_id):
            for row in rows:
                if row["reactions"] is not None:
                    reactions.append(row["reactions"].strip()[1:-1])
                if row["wrote"]:
                    scope = ExportScope(row["key"], reader_id=None, author_id=self._user_id)
                    async for piece in self._session(f"rooms/{row['key']}.json", scope):
                        yield piece
        async for piece in self._archive.add("reactions.json", _once(b"[" + b",".join(reactions) + b"]")):
            yield piece

    async def _rows(
        self, statement: str, subject: UUID, *more: Any, after: Any = _FIRST
    ) -> AsyncGenerator[list[asyncpg.Record]]:
        while rows := await self._database.fetch_rows(statement, subject, after, *more):
            after = rows[-1]["key"]
            yield rows


async def open_account_export(database: Database, storage: Storage, clock: Clock, user_id: UUID) -> AccountExport:
    """Find the account. Raises `NotAuthenticated` for one that is closed."""
    profile = await database.fetch_json(sql.PROFILE, user_id)
    if profile is None:
        raise NotAuthenticated("The account is closed.")
    return AccountExport(database, storage, clock, user_id, profile)


class AccountExports:
    """One per process: each export walks over everything there is, so only a few are under way at a time."""

    def __init__(self, database: Database, storage: Storage, clock: Clock, *, at_once: int = 2) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock
        self._at_once = at_once
        self._under_way: dict[object, UUID] = {}

    async def open(self, user_id: UUID) -> AsyncGenerator[bytes]:
        """The archive's bytes. Raises `NotAuthenticated` for a closed account, and `ExportsBusy`."""
        export = await open_account_export(self._database, self._storage, self._clock, user_id)
        if user_id in self._under_way.values() or len(self._under_way) >= self._at_once:
            raise ExportsBusy
        place = object()
        self._under_way[place] = user_id
        pieces = self._counted(place, export)
        # A stream of which nobody reads the first piece never begins, and so never ends either.
        weakref.finalize(pieces, self._under_way.pop, place, None)
        return pieces

    async def _counted(self, place: object, export: AccountExport) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(export.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._under_way.pop(place, None)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _array(
    batches: AsyncIterator[list[asyncpg.Record]], first: Sequence[asyncpg.Record] = ()
) -> AsyncGenerator[bytes]:
    """The documents of batches as one JSON array."""
    yield b"["
    separator = b"\n"
    if first:
        yield separator + b",\n".join(row["document"] for row in first)
        separator = b",\n"
    async for rows in batches:
        yield separator + b",\n".join(row["document"] for row in rows)
        separator = b",\n"
    yield b"]\n"
