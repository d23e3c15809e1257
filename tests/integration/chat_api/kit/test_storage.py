"""The storage of files: the same over a folder of this machine and over an S3-compatible server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.documents.storage import storage_key
from chat_api.kit.models import new_id
from chat_api.kit.storage import BytesMissing, ObjectStorage, Storage, StorageUnavailable, open_storage
from shared.settings import Environment
from tests.fakes.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

MEBIBYTE = 1024 * 1024
SIZES = (1, 4096, 5 * MEBIBYTE, 5 * MEBIBYTE + 1, 12 * MEBIBYTE)
"""Around the size of a part."""


@dataclass
class Place:
    storage: ObjectStorage
    folder: Path
    server: S3Server | None


def settings(**fields: object) -> ApiSettings:
    return ApiSettings.model_validate({"environment": Environment.TEST, **fields})


def s3_settings(server: S3Server, **fields: object) -> ApiSettings:
    return settings(
        **{
            "document_storage_url": f"s3://{server.bucket}/some/prefix",
            "s3_endpoint_url": server.url,
            "s3_access_key_id": SecretStr(ACCESS_KEY),
            "s3_secret_access_key": SecretStr(SECRET_KEY),
            **fields,
        }
    )


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield Place(open_storage(settings(data_dir=tmp_path / "data")), tmp_path, None)
        return
    with S3Server().running() as server:
        yield Place(open_storage(s3_settings(server)), tmp_path, server)


async def keys(storage: Storage) -> list[str]:
    return sorted([stored.key async for batch in storage.objects() for stored in batch])


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_comes_back(place: Place, size: int) -> None:
    content = os.urandom(size)
    (place.folder / "source").write_bytes(content)
    key = storage_key(new_id(), new_id())

    await place.storage.put(key, place.folder / "source")
    await place.storage.download(key, place.folder / "target")

    assert hashlib.sha256((place.folder / "target").read_bytes()).digest() == hashlib.sha256(content).digest()
    [stored] = [stored async for batch in place.storage.objects() for stored in batch]
    assert (stored.key, stored.size) == (key, size)
    assert abs(stored.modified_at - datetime.now(UTC)) < timedelta(seconds=30)


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: Place) -> None:
    (place.folder / "source").write_bytes(b"x")
    bot = new_id()
    kept, deleted = storage_key(bot, new_id()), storage_key(bot, new_id())
    for key in (kept, deleted):
        await place.storage.put(key, place.folder / "source")

    for _ in range(2):
        await place.storage.delete(deleted)

    assert await keys(place.storage) == [kept]
    with pytest.raises(BytesMissing):
        await place.storage.download(deleted, place.folder / "target")


@pytest.mark.parametrize("size", [0, 1, 12 * MEBIBYTE])
async def test_what_is_read_in_pieces_is_what_was_stored(place: Place, size: int) -> None:
    content = os.urandom(size)
    (place.folder / "source").write_bytes(content)
    await place.storage.put("attachments/person/file", place.folder / "source")

    pieces = [piece async for piece in await place.storage.read("attachments/person/file")]

    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= MEBIBYTE


async def test_reading_what_is_not_there_fails_before_the_first_piece(place: Place) -> None:
    with pytest.raises(BytesMissing):
        await place.storage.read("attachments/person/file")


async def test_a_prefix_is_of_whole_parts(place: Place) -> None:
    (place.folder / "source").write_bytes(b"x")
    for key in ("attachments/a/1", "attachments/b/2", "attachments2/a/3", "bot/document"):
        await place.storage.put(key, place.folder / "source")

    found = sorted([stored.key async for batch in place.storage.objects("attachments") for stored in batch])

    assert found == ["attachments/a/1", "attachments/b/2"]
    assert [batch async for batch in place.storage.objects("nothing")] in ([], [[]])


async def test_nothing_is_stored_at_first(place: Place) -> None:
    assert await keys(place.storage) == []


def test_a_local_storage_is_below_the_data_folder_or_where_it_is_told(tmp_path: Path) -> None:
    open_storage(settings(data_dir=tmp_path / "data"))
    open_storage(settings(document_storage_url=f"file://{tmp_path}/else%20where"))

    assert (tmp_path / "data/documents").is_dir()
    assert (tmp_path / "else where").is_dir()


async def test_a_local_object_is_a_file_under_its_key(tmp_path: Path) -> None:
    storage = open_storage(settings(data_dir=tmp_path))
    (tmp_path / "source").write_bytes(b"x")

    await storage.put("bot/document", tmp_path / "source")

    assert (tmp_path / "documents/bot/document").read_bytes() == b"x"


async def test_the_prefix_of_a_bucket_is_kept(tmp_path: Path) -> None:
    with S3Server().running() as server:
        (tmp_path / "source").write_bytes(b"x")
        await open_storage(s3_settings(server)).put("bot/document", tmp_path / "source")

        assert list(server.objects) == ["some/prefix/bot/document"]


async def test_what_is_not_signed_with_the_right_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with S3Server().running() as server:
        storage = open_storage(s3_settings(server, s3_secret_access_key=SecretStr("another")))
        with pytest.raises(StorageUnavailable):
            await storage.put("bot/document", tmp_path / "source")
        with pytest.raises(StorageUnavailable):
            await storage.download("bot/document", tmp_path / "target")
        with pytest.raises(StorageUnavailable):
            await keys(storage)

        assert server.objects == {}


async def test_a_store_that_stumbles_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with S3Server(failures=2).running() as server:
        await open_storage(s3_settings(server)).put("bot/document", tmp_path / "source")

        assert len(server.objects) == 1


async def test_a_store_that_is_away_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with S3Server().running() as server:
        storage = open_storage(s3_settings(server))
    for action in (
        storage.put("bot/document", tmp_path / "source"),
        storage.download("bot/document", tmp_path / "target"),
        storage.read("bot/document"),
        storage.delete("bot/document"),
    ):
        with pytest.raises(StorageUnavailable):
            await action


async def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    storage = open_storage(settings(data_dir=tmp_path))
    (tmp_path / "source").write_bytes(b"x")
    (tmp_path / "documents/bot").write_text("a file where a folder should be")

    with pytest.raises(StorageUnavailable):
        await storage.put("bot/document", tmp_path / "source")
