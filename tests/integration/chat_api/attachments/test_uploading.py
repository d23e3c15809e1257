"""Uploading a file: what is stored, what is refused, and what a second try gives."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

import pytest

from chat_api.attachments.service import storage_key
from tests.factories.attachments import GIF, HTML, JPEG, PNG, SVG, WEBP, attach, attached
from tests.factories.chat import API, ChatApi, Person, problem
from tests.factories.documents import stored_files
from tests.fakes.storage import MovableStorage

LARGEST = 300_000


async def rows(chat: ChatApi) -> list[object]:
    return await chat.rows("SELECT id FROM chat.attachments")


async def test_what_is_stored_and_answered(chat: ChatApi, ann: Person) -> None:
    attachment = await attached(chat, ann)

    assert attachment == {
        "id": attachment["id"],
        "name": "harbour.png",
        "content_type": "image/png",
        "size_bytes": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "created_at": attachment["created_at"],
    }
    assert stored_files(chat) == {storage_key(ann.id, UUID(attachment["id"])): PNG}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("photo.txt", JPEG, "image/jpeg"),
        ("moving.png", GIF, "image/gif"),
        ("small", WEBP, "image/webp"),
        ("picture.png", SVG, "application/octet-stream"),
        ("picture.png", HTML, "text/html"),
        ("picture.png", b"just words", "text/plain"),
        ("notes.md", b"# Notes", "text/markdown"),
        ("report.png", b"%PDF-1.4\n1 0 obj", "application/pdf"),
        ("run.png", b"\x7fELF\x02\x01\x01" + b"\0" * 64, "application/octet-stream"),
        ("half.png", PNG[:20], "application/octet-stream"),
        ("empty lines.txt", b"\n \n", "text/plain"),
        ("zip.docx", b"PK\x03\x04rest", "application/octet-stream"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
async def test_the_content_says_what_it_is(chat: ChatApi, ann: Person, name: str, content: bytes, kind: str) -> None:
    attachment = await attached(chat, ann, name, content)

    assert (attachment["content_type"], attachment["name"]) == (kind, name)


@pytest.mark.parametrize(
    ("name", "clean"),
    [("../../etc/passwd", "passwd"), ("C:\\docs\\plan.txt", "plan.txt"), ("näkymä 会.png", "näkymä 会.png")],
)
async def test_a_name_is_no_path(chat: ChatApi, ann: Person, name: str, clean: str) -> None:
    assert (await attached(chat, ann, name))["name"] == clean


async def test_an_empty_file_is_refused(chat: ChatApi, ann: Person) -> None:
    assert problem(await attach(chat, ann, content=b"")) == (422, "empty-attachment")
    assert (await rows(chat), stored_files(chat)) == ([], {})


async def test_the_largest_is_taken_and_one_byte_more_is_not(chat: ChatApi, ann: Person) -> None:
    assert (await attached(chat, ann, content=b"x" * LARGEST))["size_bytes"] == LARGEST

    too_large = await attach(chat, ann, content=b"x" * (LARGEST + 1))
    far_too_large = await attach(chat, ann, content=b"x" * (LARGEST + 100_000))

    assert problem(too_large) == (413, "attachment-too-large")
    assert "300000 bytes" in too_large.json()["detail"]
    assert problem(far_too_large) == (413, "payload-too-large")
    assert len(await rows(chat)) == len(stored_files(chat)) == 1


async def test_one_file_at_a_time(chat: ChatApi, ann: Person) -> None:
    files = [("file", ("a.png", PNG)), ("file", ("b.png", PNG))]

    answer = await chat.client.post(f"{API}/attachments", files=files, headers=ann.headers)

    assert problem(answer) == (422, "invalid-upload")
    assert answer.json()["errors"][0]["loc"] == ["body", "file"]
    assert (await rows(chat), stored_files(chat)) == ([], {})


async def test_the_same_key_stores_it_once(chat: ChatApi, ann: Person) -> None:
    headers = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(attach(chat, ann, headers=headers) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 4
    assert len(await rows(chat)) == len(stored_files(chat)) == 1
    assert problem(await attach(chat, ann, content=JPEG, headers=headers)) == (422, "idempotency-key-reused")
    assert problem(await attach(chat, ann, "other.png", headers=headers)) == (422, "idempotency-key-reused")
    assert len(stored_files(chat)) == 1


async def test_a_storage_that_is_away_leaves_no_row(chat: ChatApi, ann: Person) -> None:
    chat.app.state.storage = storage = MovableStorage(chat.app.state.storage)
    storage.is_away = True

    answer = await attach(chat, ann)

    assert problem(answer) == (503, "storage-unavailable")
    assert answer.headers["retry-after"]
    assert await rows(chat) == []
