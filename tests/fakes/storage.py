"""A storage that can be away, in front of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from pathlib import Path

from chat_api.kit.db import Database
from chat_api.kit.storage import Storage, StorageUnavailable, StoredObject


class MovableStorage:
    """Does what `real` does, unless it `is_away`. `reads` are the keys that were asked for."""

    def __init__(self, real: Storage) -> None:
        self.is_away = False
        self.reads: list[str] = []
        self._real = real

    async def put(self, key: str, source: Path) -> None:
        self._check()
        await self._real.put(key, source)

    async def download(self, key: str, target: Path) -> None:
        self._check()
        await self._real.download(key, target)

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        self.reads.append(key)
        self._check()
        return await self._real.read(key)

    async def delete(self, key: str) -> None:
        self._check()
        await self._real.delete(key)

    async def objects(self, prefix: str | None = None) -> AsyncIterator[list[StoredObject]]:
        self._check()
        async for batch in self._real.objects(prefix):
            yield batch

    async def remove_unfinished(self, before: datetime) -> int:
        self._check()
        return await self._real.remove_unfinished(before)

    def _check(self) -> None:
        if self.is_away:
            raise StorageUnavailable


class PatientStorage(MovableStorage):
    """Answers once nobody holds a connection to the database: who waits for it with one in hand waits in vain."""

    def __init__(self, real: Storage, database: Database) -> None:
        super().__init__(real)
        self._database = database

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        async with asyncio.timeout(30):
            # Others may need one at the moment, but not for long.
            while self._database.connections_in_use():
                await asyncio.sleep(0.005)
        return await super().read(key)
