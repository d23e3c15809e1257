"""Where the bytes of files are: a folder of this machine, or any S3-compatible store.

A key is made of ids of ours: nothing that a person typed becomes a path. An object is never changed, only written
whole and deleted. The adapter is obstore's (Rust's object_store): one interface for both, with multipart
uploads, signatures and retries, and no event loop of its own to agree with.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from chat_api.config import ApiSettings
from shared.logging import get_logger
from shared.problems import Problem, ServiceUnavailable

if TYPE_CHECKING:
    # The last line's exist for type checkers only.
    from obstore import GetResult
    from obstore.store import ClientConfig, RetryConfig, S3Config

log = get_logger("storage")

_MEBIBYTE = 1024 * 1024
_READ_BYTES = 256 * 1024
_S3_PART_BYTES = 5 * _MEBIBYTE
"""The least that S3 takes. One part is sent at a time, and an upload holds about three in memory."""
_UPLOADS_AT_ONCE = 2
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=30)}
_RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


class StorageUnavailable(ServiceUnavailable):
    code = "storage-unavailable"
    title = "The file storage is unavailable"
    detail = "The storage of files does not answer. Nothing was changed; try again."
    retry_after = 2


class BytesMissing(Problem):
    """The row is there and its bytes are not: only the person can bring them back."""

    status = 410
    code = "bytes-missing"
    title = "The file is gone"
    detail = "The file is no longer in storage. Upload it again."


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size: int
    modified_at: datetime


class Storage(Protocol):
    """All raise `StorageUnavailable` when the store does not do what it is asked."""

    async def put(self, key: str, source: Path) -> None:
        """Store a file's bytes. They are there whole once this returns, and not at all before."""
        ...

    async def download(self, key: str, target: Path) -> None:
        """Write the bytes to a file. Raises `BytesMissing` when there are none."""
        ...

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes, in pieces as they come. Raises `BytesMissing` at once, before the first piece."""
        ...

    async def delete(self, key: str) -> None:
        """Doing it twice is the same as once."""
        ...

    def objects(self, prefix: str | None = None) -> AsyncIterator[list[StoredObject]]:
        """Everything that is stored, or what is below a prefix of whole parts of keys, in batches."""
        ...

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove what writes that were cut short before then left, which is no object; returns how many."""
        ...


class ObjectStorage:
    """`Storage` over obstore. `folder` is the local store's own, where writes are made to last."""

    def __init__(self, store: LocalStore | S3Store, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self._part_bytes = _S3_PART_BYTES if folder is None else _MEBIBYTE
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def put(self, key: str, source: Path) -> None:
        async with self._uploads:
            with _translated("put", key):
                await obstore.put_async(self._store, key, source, chunk_size=self._part_bytes, max_concurrency=1)
                if self._folder is not None:
                    await asyncio.to_thread(_make_durable, self._folder, key)

    async def download(self, key: str, target: Path) -> None:
        with _translated("download", key):
            found = await obstore.get_async(self._store, key)
            file = await asyncio.to_thread(target.open, "wb")
            try:
                async for piece in found.stream(min_chunk_size=_MEBIBYTE):
                    await asyncio.to_thread(_write, file, piece)
            finally:
                file.close()

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        with _translated("read", key):
            found = await obstore.get_async(self._store, key)
        return _pieces(found, key)

    async def delete(self, key: str) -> None:
        with _translated("delete", key):
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                return

    async def objects(self, prefix: str | None = None) -> AsyncIterator[list[StoredObject]]:
        with _translated("list", prefix or ""):
            async for batch in obstore.list(self._store, prefix, chunk_size=1000):
                yield [StoredObject(meta["path"], meta["size"], meta["last_modified"]) for meta in batch]

    async def remove_unfinished(self, before: datetime) -> int:
        # In a bucket that is what a lifecycle rule for incomplete multipart uploads is for.
        return 0 if self._folder is None else await asyncio.to_thread(_remove_staged, self._folder, before.timestamp())


def open_storage(settings: ApiSettings) -> ObjectStorage:
    """The storage that is configured. Makes the folder of a local one; asks nothing of a remote one."""
    url = settings.document_storage_url
    if url is None:
        return local_storage(settings.data_dir.absolute() / "documents")
    parts = urlsplit(url)
    if parts.scheme == "file":
        return local_storage(Path(unquote(parts.path)))
    return ObjectStorage(_s3_store(settings, parts.netloc, parts.path.strip("/")))


def local_storage(folder: Path) -> ObjectStorage:
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectStorage(LocalStore(folder), folder)


def _s3_store(settings: ApiSettings, bucket: str, prefix: str) -> S3Store:
    config: S3Config = {"bucket": bucket, "region": settings.s3_region}
    client = _CLIENT.copy()
    if settings.s3_endpoint_url is not None:
        config["endpoint"] = settings.s3_endpoint_url
        client["allow_http"] = settings.s3_endpoint_url.startswith("http://")
    # Without keys of ours the store looks for the machine's own: its environment, its role.
    if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
        config["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    # Deletes go one by one: not every S3-compatible store knows the bulk request, and we delete one at a time.
    config["disable_bulk_delete"] = True
    return S3Store(prefix=prefix or None, config=config, client_options=client, retry_config=_RETRIES)


@contextmanager
def _translated(action: str, key: str) -> Iterator[None]:
    """What obstore and the file system raise, as problems. The address of the store stays in our log."""
    try:
        yield
    except FileNotFoundError:
        raise BytesMissing from None
    except (BaseError, OSError) as error:
        log.warning("storage.failed", action=action, key=key, error=type(error).__name__)
        raise StorageUnavailable from error


def _write(file: BinaryIO, piece: bytes) -> None:
    file.write(piece)


async def _pieces(found: GetResult, key: str) -> AsyncGenerator[bytes]:
    with _translated("read", key):
        async for piece in found.stream(min_chunk_size=_READ_BYTES):
            yield bytes(piece)


def _make_durable(folder: Path, key: str) -> None:
    """A power cut must not take what a commit says is there: write the file and its names to the disk."""
    path = folder / key
    for target in (path, *(parent for parent in path.parents if parent.is_relative_to(folder))):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(folder: Path, before: float) -> int:
    """The files that obstore writes to before it renames them: `<name>#<number>`."""
    removed = 0
    for path in folder.rglob("*#*"):
        if path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
