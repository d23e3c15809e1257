"""Receiving a file to import: in a form, or as the body itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chat_api.kit.upload import UploadReader, UploadRules
from chat_api.transfer.errors import ImportTooLarge, InvalidImport

FIELD = "file"
_JSON = "application/json"
_WRITE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ReceivedImport:
    """One file, whole, in a folder of its own."""

    path: Path
    sha256: bytes


async def receive_import(
    folder: Path, content_type: str | None, body: AsyncIterable[bytes], *, max_bytes: int
) -> ReceivedImport:
    """Write it to the folder, in bounded memory.

    Raises `UnsupportedUpload`, `MalformedRequest`, `InvalidUpload`, `InvalidImport` and `ImportTooLarge`.
    """
    if content_type is not None and content_type.partition(";")[0].strip().lower() == _JSON:
        return await _write(folder / "body", body, max_bytes)
    rules = UploadRules(fields=(FIELD,), max_files=1, max_bytes=max_bytes, judge=_judge, too_large=ImportTooLarge.named)
    [file] = await UploadReader(folder, rules).form(content_type, body)
    return ReceivedImport(file.path, file.sha256)


def _judge(content: BinaryIO, _: str) -> str:
    if not content.read(1):
        raise InvalidImport("The file is empty")
    return _JSON


async def _write(path: Path, body: AsyncIterable[bytes], max_bytes: int) -> ReceivedImport:
    hashed, size, waiting = hashlib.sha256(), 0, bytearray()
    with path.open("xb", buffering=0) as file:
        async for data in body:
            size += len(data)
            if size > max_bytes:
                raise ImportTooLarge.named("The body", max_bytes)
            hashed.update(data)
            waiting += data
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(_write_all, file, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(_write_all, file, bytes(waiting))
    return ReceivedImport(path, hashed.digest())


def _write_all(file: BinaryIO, data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[file.write(remaining) :]
