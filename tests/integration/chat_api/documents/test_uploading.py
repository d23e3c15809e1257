"""Uploads: what is taken, what is refused, and that both are whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from chat_api.documents.intake import Intake
from chat_api.kit.storage import ObjectStorage, StorageUnavailable
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.documents import HARBOUR, become, outbox, stored_files, upload, uploaded

PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer <<>>\n%%EOF\n" + bytes(range(256))
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


async def documents_of(chat: ChatApi, bot: Json) -> list[Any]:
    return await chat.rows("SELECT * FROM chat.documents WHERE bot_id = $1 ORDER BY id", UUID(bot["id"]))


async def test_one_file(chat: ChatApi, ann: Person, bot: Json) -> None:
    name, content = HARBOUR
    answer = await upload(chat, ann, bot)

    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert document.pop("items") == [document]
    created_at = document.pop("created_at")
    assert document == {
        "id": document["id"],
        "bot_id": bot["id"],
        "name": name,
        "content_type": "text/markdown",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "status": "pending",
        "progress": {"done": 0, "total": 0},
        "chunk_count": 0,
        "error": None,
        "version": 1,
        "indexed_at": None,
    }
    assert created_at.endswith("Z")
    assert stored_files(chat) == {f"{bot['id']}/{document['id']}": content}
    assert await outbox(chat, document) == [("document.index", {"version": 1})]
    [row] = await documents_of(chat, bot)
    assert (row["uploaded_by"], row["storage_key"]) == (ann.id, f"{bot['id']}/{document['id']}")


async def test_many_files_keep_their_order(chat: ChatApi, ann: Person, bot: Json) -> None:
    files = [
        ("b.txt", b"second letter"),
        ("a.pdf", PDF),
        ("c.csv", b"a,b\n1,2\n"),
        ("index.html", b"<html><p>x</html>"),
    ]

    items = await uploaded(chat, ann, bot, *files)

    assert [(item["name"], item["content_type"]) for item in items] == [
        ("b.txt", "text/plain"),
        ("a.pdf", "application/pdf"),
        ("c.csv", "text/csv"),
        ("index.html", "text/html"),
    ]
    for (_, content), item in zip(files, items, strict=True):
        assert stored_files(chat)[f"{bot['id']}/{item['id']}"] == content
        assert await outbox(chat, item) == [("document.index", {"version": 1})]


async def test_a_text(chat: ChatApi, ann: Person, bot: Json) -> None:
    body = {"name": "notes/öffnung.md", "text": "# Öffnung\n\nUm zehn."}
    answer = await chat.client.post(f"{API}/bots/{bot['id']}/documents/text", json=body, headers=ann.headers)

    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert "items" not in document
    assert (document["name"], document["content_type"]) == ("öffnung.md", "text/markdown")
    assert stored_files(chat) == {f"{bot['id']}/{document['id']}": body["text"].encode()}
    assert await outbox(chat, document) == [("document.index", {"version": 1})]


async def test_a_long_text_fits_a_body(chat: ChatApi, ann: Person, bot: Json) -> None:
    body = {"name": "long.txt", "text": "ö" * 40_000}
    answer = await chat.client.post(f"{API}/bots/{bot['id']}/documents/text", json=body, headers=ann.headers)

    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([("a.txt", b"")], (422, "empty-document")),
        ([("a.txt", b" \n ")], (422, "empty-document")),
        ([("a.txt", PNG)], (415, "unsupported-document")),
        ([("a.pdf", b"x" * 100_001)], (413, "document-too-large")),
        ([("", b"x")], (422, "invalid-upload")),
        ([("..", b"x")], (422, "invalid-upload")),
        ([(f"{at}.txt", f"file {at}".encode()) for at in range(51)], (422, "invalid-upload")),
        ([(f"{at}.txt", b"x" * 99_000) for at in range(16)], (413, "payload-too-large")),
    ],
)
async def test_a_bad_file_refuses_the_upload_and_leaves_nothing(
    chat: ChatApi, ann: Person, bot: Json, files: list[tuple[str, bytes]], expected: tuple[int, str]
) -> None:
    parts = [("files", ("good.txt", b"a good file")), *(("files", file) for file in files)]
    answer = await chat.client.post(f"{API}/bots/{bot['id']}/documents", files=parts, headers=ann.headers)

    assert problem(answer) == expected
    assert answer.json()["detail"]
    assert stored_files(chat) == {}
    assert await documents_of(chat, bot) == []
    assert await chat.rows("SELECT * FROM chat.outbox") == []


async def test_the_same_bytes_are_the_same_document(chat: ChatApi, ann: Person, bot: Json) -> None:
    [first] = await uploaded(chat, ann, bot)
    await become(chat, first, "ready", chunk_count=1)

    again = await uploaded(chat, ann, bot, ("another name.md", HARBOUR[1]), ("new.txt", b"new"), HARBOUR)

    assert [item["id"] for item in again] == [first["id"], again[1]["id"], first["id"]]
    assert (again[0]["name"], again[0]["status"]) == (HARBOUR[0], "ready")
    assert len(stored_files(chat)) == len(await documents_of(chat, bot)) == 2
    assert await outbox(chat, first) == [("document.index", {"version": 1})]


async def test_the_same_bytes_twice_in_one_upload(chat: ChatApi, ann: Person, bot: Json) -> None:
    items = await uploaded(chat, ann, bot, HARBOUR, ("copy.md", HARBOUR[1]))

    assert items[0] == items[1]
    assert list(stored_files(chat)) == [f"{bot['id']}/{items[0]['id']}"]


async def test_the_same_bytes_of_another_bot_are_another_document(chat: ChatApi, ann: Person, bot: Json) -> None:
    other = await chat.bot(ann, name="Other")

    [first], [second] = await uploaded(chat, ann, bot), await uploaded(chat, ann, other)

    assert first["id"] != second["id"]
    assert len(stored_files(chat)) == 2


async def test_bytes_that_failed_are_tried_again(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    error = {"type": "about:blank", "title": "No", "status": 422, "detail": "It failed.", "code": "document-unreadable"}
    await become(chat, document, "failed", error=error)

    [again] = await uploaded(chat, ann, bot)

    assert (again["id"], again["status"], again["version"], again["error"]) == (document["id"], "pending", 2, None)
    assert await outbox(chat, document) == [("document.index", {"version": 1}), ("document.index", {"version": 2})]


async def test_bytes_that_were_deleted_are_a_new_document(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    await chat.client.delete(f"{API}/documents/{document['id']}", headers=ann.headers)

    [again] = await uploaded(chat, ann, bot)

    assert again["id"] != document["id"]


async def test_twenty_uploads_of_the_same_bytes_race(chat: ChatApi, ann: Person, bot: Json) -> None:
    found = await asyncio.gather(*(uploaded(chat, ann, bot) for _ in range(20)))

    assert len({item["id"] for [item] in found}) == 1
    assert len(await documents_of(chat, bot)) == 1
    assert stored_files(chat) == {f"{bot['id']}/{found[0][0]['id']}": HARBOUR[1]}
    assert await outbox(chat, found[0][0]) == [("document.index", {"version": 1})]


async def test_a_delete_that_races_uploads_of_the_same_bytes(chat: ChatApi, ann: Person, bot: Json) -> None:
    """Whatever comes first, each document that is there has its bytes."""
    for _ in range(5):
        [document] = await uploaded(chat, ann, bot)
        deleting = chat.client.delete(f"{API}/documents/{document['id']}", headers=ann.headers)
        await asyncio.gather(deleting, *(uploaded(chat, ann, bot) for _ in range(4)))

        live = [row for row in await documents_of(chat, bot) if row["deleted_at"] is None]
        assert len(live) <= 1
        for row in await documents_of(chat, bot):
            assert stored_files(chat)[row["storage_key"]] == HARBOUR[1]
        # One for each row that ever was: nothing of the losers is left.
        assert len(stored_files(chat)) == len(await documents_of(chat, bot))


async def test_an_idempotency_key_answers_as_then(chat: ChatApi, ann: Person, bot: Json) -> None:
    key = {"Idempotency-Key": "once"}
    first = await upload(chat, ann, bot, HARBOUR, ("b.txt", b"b"), headers=key)
    await become(chat, first.json(), "ready")

    again = await upload(chat, ann, bot, HARBOUR, ("b.txt", b"b"), headers=key)
    other = await upload(chat, ann, bot, HARBOUR, ("b.txt", b"c"), headers=key)

    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert problem(other) == (422, "idempotency-key-reused")
    assert len(stored_files(chat)) == 2


async def test_an_idempotency_key_in_a_race(chat: ChatApi, ann: Person, bot: Json) -> None:
    key = {"Idempotency-Key": "once"}

    found = await asyncio.gather(*(upload(chat, ann, bot, headers=key) for _ in range(10)))

    assert {answer.status_code for answer in found} == {202}
    assert len({answer.content for answer in found}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in found) == 9
    assert len(stored_files(chat)) == 1


async def test_only_the_owner_uploads(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    assert problem(await upload(chat, bob, bot)) == (404, "bot-not-found")

    await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": "shared"}, headers=ann.headers)
    await chat.share(ann, bot, bob)

    assert problem(await upload(chat, bob, bot)) == (403, "not-bot-owner")
    text = {"name": "a.txt", "text": "x"}
    refused = await chat.client.post(f"{API}/bots/{bot['id']}/documents/text", json=text, headers=bob.headers)
    assert problem(refused) == (403, "not-bot-owner")
    assert stored_files(chat) == {}


async def test_who_may_not_upload_is_told_before_the_body_is_read(
    chat: ChatApi, ann: Person, bob: Person, bot: Json
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"--x"
        read.append("the body was read")

    read: list[str] = []

    for headers, expected in ((bob.headers, (404, "bot-not-found")), ({}, (401, "not-authenticated"))):
        headers = headers | {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await chat.client.post(f"{API}/bots/{bot['id']}/documents", content=body(), headers=headers)
        assert problem(answer) == expected
    assert read == []


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("application/json", b"{}", (415, "unsupported-media-type")),
        ("text/plain", b"x", (415, "unsupported-media-type")),
        ("multipart/form-data", b"x", (400, "malformed-request")),
        ("multipart/form-data; boundary=x", b"", (400, "malformed-request")),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Dis", (400, "malformed-request")),
        ("multipart/form-data; boundary=x", b"--x--\r\n", (422, "invalid-upload")),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--x--\r\n',
            (422, "invalid-upload"),
        ),
    ],
)
async def test_a_body_that_is_no_upload(
    chat: ChatApi, ann: Person, bot: Json, kind: str, content: bytes, expected: tuple[int, str]
) -> None:
    answer = await chat.client.post(
        f"{API}/bots/{bot['id']}/documents", content=content, headers=ann.headers | {"Content-Type": kind}
    )

    assert problem(answer) == expected


async def test_a_body_above_the_limit_is_refused_with_or_without_a_length(
    chat: ChatApi, ann: Person, bot: Json
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(30):
            head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{at}.txt"\r\n\r\n'.encode()
            yield head + b"x" * 90_000 + b"\r\n"

    headers = ann.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    url = f"{API}/bots/{bot['id']}/documents"
    for answer in (
        await chat.client.post(url, content=chunks(), headers=headers),
        await chat.client.post(url, content=b"x" * 1_500_001, headers=headers),
    ):
        assert problem(answer) == (413, "payload-too-large")
        assert "1500000 bytes" in answer.json()["detail"]
    assert stored_files(chat) == {}


async def test_the_limit_of_json_stays_elsewhere(chat: ChatApi, ann: Person, bot: Json) -> None:
    answer = await chat.client.post(
        f"{API}/bots/{bot['id']}/documents/text", content=b"x" * 1_000_001, headers=ann.headers
    )

    assert problem(answer) == (413, "payload-too-large")
    assert "1000000 bytes" in answer.json()["detail"]


class FailingStorage(ObjectStorage):
    """Takes the first file and is away for the second."""

    def __init__(self, real: ObjectStorage) -> None:
        self._real = real
        self.puts = 0

    async def put(self, key: str, source: Any) -> None:
        self.puts += 1
        if self.puts > 1:
            raise StorageUnavailable
        await self._real.put(key, source)

    async def delete(self, key: str) -> None:
        await self._real.delete(key)


def store_in(chat: ChatApi, storage: ObjectStorage) -> None:
    chat.app.state.intake = Intake(chat.app.state.database, storage, chat.clock, chat.app.state.plans)


async def test_a_storage_that_goes_away_in_the_middle_leaves_nothing(chat: ChatApi, ann: Person, bot: Json) -> None:
    store_in(chat, FailingStorage(chat.app.state.storage))

    answer = await upload(chat, ann, bot, HARBOUR, ("b.txt", b"b"))

    assert problem(answer) == (503, "storage-unavailable")
    assert answer.headers["retry-after"]
    assert stored_files(chat) == {}
    assert await documents_of(chat, bot) == []


async def test_a_bot_that_goes_away_in_the_middle_leaves_nothing(chat: ChatApi, ann: Person, bot: Json) -> None:
    real: ObjectStorage = chat.app.state.storage

    class DeletesTheBot(FailingStorage):
        async def put(self, key: str, source: Any) -> None:
            await real.put(key, source)
            gone = await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
            assert gone.status_code == 204

    store_in(chat, DeletesTheBot(real))

    assert problem(await upload(chat, ann, bot)) == (404, "bot-not-found")
    assert stored_files(chat) == {}
    assert await documents_of(chat, bot) == []


async def test_a_name_is_cleaned(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot, ("../../etc/pass  wd\u202e.txt", b"x"))

    assert document["name"] == "pass wd.txt"
    assert list(stored_files(chat)) == [f"{bot['id']}/{document['id']}"]
