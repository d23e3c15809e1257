"""A zip that is written while it is read."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from chat_api.privacy.archive import ArchivedFile, ArchiveStream

MOMENT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


async def content(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def breaking() -> AsyncIterator[bytes]:
    yield b"half"
    raise OSError


async def test_any_reader_of_zips_opens_it() -> None:
    archive = ArchiveStream(MOMENT)
    noise = hashlib.shake_128(b"noise").digest(300_000)
    written = [piece async for piece in archive.add("a/ä.txt", content(b"One ", b"", b"two."))]
    written += [piece async for piece in archive.add("b.bin", content(noise), compress=False)]
    written += [piece async for piece in archive.add("empty", content())]
    written.append(archive.end())

    with zipfile.ZipFile(io.BytesIO(b"".join(written))) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "a/ä.txt": b"One two.",
            "b.bin": noise,
            "empty": b"",
        }
        assert opened.getinfo("b.bin").compress_type == zipfile.ZIP_STORED
        assert opened.getinfo("b.bin").date_time == (2026, 1, 31, 9, 30, 0)
    assert archive.files[1] == ArchivedFile("b.bin", len(noise), hashlib.sha256(noise).hexdigest())


async def test_what_was_written_is_not_kept() -> None:
    archive = ArchiveStream(MOMENT)
    largest = 0
    total = 0
    block = hashlib.shake_128(b"block").digest(1024 * 1024)
    async for piece in archive.add("large", content(*([block] * 8)), compress=False):
        largest, total = max(largest, len(piece)), total + len(piece)

    assert total > 7 * len(block)
    assert largest <= 256 * 1024


async def test_one_that_broke_off_does_not_open() -> None:
    archive = ArchiveStream(MOMENT)
    written = [piece async for piece in archive.add("a", content(b"whole"))]
    with pytest.raises(OSError):  # noqa: PT011 - the very error that the content raised
        written += [piece async for piece in archive.add("b", breaking())]

    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(b"".join(written)))


async def test_a_clock_before_the_format() -> None:
    archive = ArchiveStream(datetime(1970, 1, 1, tzinfo=UTC))
    written = [piece async for piece in archive.add("a", content(b"x"))]

    with zipfile.ZipFile(io.BytesIO(b"".join([*written, archive.end()]))) as opened:
        assert opened.getinfo("a").date_time == (1980, 1, 1, 0, 0, 0)
