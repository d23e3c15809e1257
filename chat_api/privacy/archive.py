"""A zip that is written while it is read: nothing of it is kept, however large it gets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_PIECE_BYTES = 64 * 1024
"""Compressed in one go: a few milliseconds, in which nobody else is served."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    name: str
    size_bytes: int
    sha256: str


class _Pipe(io.RawIOBase):
    """What `zipfile` writes to, and the stream is read from. It cannot be sought in, so sizes come after each file."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._waiting += data
        return len(data)

    def take(self, at_least: int = 1) -> bytes:
        """Everything that waits; nothing, where that is less than this."""
        if len(self._waiting) < at_least:
            return b""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


class ArchiveStream:
    """One archive. Send on what `add` and `end` give, in order."""

    def __init__(self, moment: datetime) -> None:
        self._pipe = _Pipe()
        self._zip = zipfile.ZipFile(self._pipe, "w", allowZip64=True)
        # As old as the format allows, should a clock be wrong.
        self._moment = max(moment.timetuple()[:6], (1980, 1, 1, 0, 0, 0))
        self.files: list[ArchivedFile] = []

    async def add(self, name: str, content: AsyncIterable[bytes], *, compress: bool = True) -> AsyncGenerator[bytes]:
        """Raises what `content` raises; the archive is of no use then."""
        info = zipfile.ZipInfo(name, self._moment)
        info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16
        digest = hashlib.sha256()
        size = 0
        with self._zip.open(info, "w", force_zip64=True) as file:
            async for larger in content:
                for start in range(0, len(larger), _PIECE_BYTES):
                    piece = larger[start : start + _PIECE_BYTES]
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
                    if ready := self._pipe.take(_PIECE_BYTES):
                        yield ready
                    await asyncio.sleep(0)  # compressing is work, and others are waiting
        self.files.append(ArchivedFile(name, size, digest.hexdigest()))
        if ready := self._pipe.take(_PIECE_BYTES):
            yield ready

    def end(self) -> bytes:
        """The directory of the archive: without it, it is cut short, and says so when it is opened."""
        self._zip.close()
        return self._pipe.take()

    def listing(self) -> list[dict[str, Any]]:
        return [asdict(file) for file in self.files]
