"""An upload goes through in bounded memory, whatever its size."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.factories.chat import API, Json, chat_api
from tests.stores import Database

MEBIBYTE = 1024 * 1024
SIZE = 50 * MEBIBYTE
ALLOWED_GROWTH = 20 * MEBIBYTE
PIECE = b"The harbour closes at ten in the evening, and opens again at six. \n" * 960


def body(size: int, digest: list[str] | None = None) -> Iterator[bytes]:
    made = hashlib.sha256()
    yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.txt"\r\n\r\n'
    for _ in range(size // len(PIECE)):
        made.update(PIECE)
        yield PIECE
    yield b"\r\n--x--\r\n"
    if digest is not None:
        digest.append(made.hexdigest())


async def sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def peak_memory() -> int:
    """The most that this process had since the peak was forgotten, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read where Linux tells them")
async def test_fifty_megabytes_take_less_than_twenty(clean_database: Database, redis_url: str, tmp_path: Path) -> None:
    async with chat_api(
        clean_database.api_url, redis_url, data_dir=tmp_path, max_document_bytes=SIZE, max_upload_bytes=SIZE + MEBIBYTE
    ) as chat:
        ann = await chat.person("ann")
        bot = await chat.bot(ann)
        headers = ann.headers | {"Content-Type": "multipart/form-data; boundary=x"}

        async def upload(size: int, digest: list[str] | None = None) -> Json:
            url = f"{API}/bots/{bot['id']}/documents"
            answer = await chat.client.post(url, content=sent(body(size, digest)), headers=headers)
            assert answer.status_code == 202, answer.text
            document: Json = answer.json()
            return document

        # What is loaded once is not the upload's.
        await upload(2 * MEBIBYTE)
        forget_peak()
        before = peak_memory()
        digest: list[str] = []

        document = await upload(SIZE, digest)

        growth = peak_memory() - before
    assert growth < ALLOWED_GROWTH, f"{growth / MEBIBYTE:.1f} MiB"
    assert document["sha256"] == digest[0]
    stored = tmp_path / "documents" / bot["id"] / document["id"]
    assert stored.stat().st_size == document["size_bytes"] > 49 * MEBIBYTE
    with stored.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest[0]
