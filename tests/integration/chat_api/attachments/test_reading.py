"""Reading a file: who may, until when, and that nothing in it runs."""

from __future__ import annotations

from email.message import Message
from typing import Any
from uuid import UUID

import httpx
import pytest

from chat_api.attachments.service import storage_key
from tests.factories.attachments import GIF, HTML, JPEG, PNG, SVG, WEBP, attached, fetch
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.storage import MovableStorage, PatientStorage


@pytest.fixture
async def room(chat: ChatApi, ann: Person, bob: Person) -> Json:
    room = await chat.session(ann, reply_policy="never")
    await chat.join(room, bob)
    return room


async def named_in(chat: ChatApi, person: Person, room: Json, attachment: Json) -> Json:
    message: Json = (await chat.said(person, room, attachment_ids=[attachment["id"]]))["message"]
    return message


async def sent(chat: ChatApi, person: Person, method: str, path: str, **body: Any) -> httpx.Response:
    answer = await chat.client.request(method, f"{API}{path}", headers=person.headers, **body)
    assert answer.status_code < 300, answer.text
    return answer


@pytest.mark.parametrize(
    ("content", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")]
)
async def test_a_picture_comes_as_itself(chat: ChatApi, ann: Person, content: bytes, kind: str) -> None:
    answer = await fetch(chat, ann, await attached(chat, ann, "harbour", content))

    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-length"] == str(len(content))


@pytest.mark.parametrize("content", [SVG, HTML, b"words", b"%PDF-1.4\n", b"\x00\x01"], ids=lambda content: content[:5])
@pytest.mark.parametrize("name", ["picture.png", "page.html"])
async def test_anything_else_is_a_download(chat: ChatApi, ann: Person, name: str, content: bytes) -> None:
    answer = await fetch(chat, ann, await attached(chat, ann, name, content))

    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; ")


@pytest.mark.parametrize("content", [PNG, HTML])
async def test_nothing_in_it_runs_and_nobody_else_keeps_it(chat: ChatApi, ann: Person, content: bytes) -> None:
    headers = (await fetch(chat, ann, await attached(chat, ann, content=content))).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert "private" in headers["cache-control"]
    assert "immutable" in headers["cache-control"]
    assert headers["vary"] == "Authorization"


async def test_a_large_file_comes_whole(chat: ChatApi, ann: Person) -> None:
    content = bytes(range(256)) * 1_100

    assert (await fetch(chat, ann, await attached(chat, ann, "data", content))).content == content


async def test_before_a_message_names_it_it_is_the_uploaders_alone(
    chat: ChatApi, ann: Person, bob: Person, room: Json
) -> None:
    attachment = await attached(chat, ann)
    assert problem(await fetch(chat, bob, attachment)) == (404, "attachment-not-found")

    await named_in(chat, ann, room, attachment)

    assert (await fetch(chat, bob, attachment)).content == PNG
    assert problem(await fetch(chat, await chat.person(), attachment)) == (404, "attachment-not-found")


async def test_who_leaves_reads_no_more(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    hers, his = await attached(chat, ann), await attached(chat, bob)
    await named_in(chat, ann, room, hers)
    await named_in(chat, bob, room, his)
    assert (await fetch(chat, bob, hers)).status_code == 200

    await sent(chat, ann, "DELETE", f"/sessions/{room['id']}/participants/{bob.id}")

    assert problem(await fetch(chat, bob, hers)) == (404, "attachment-not-found")
    assert (await fetch(chat, bob, his)).status_code == 200
    assert (await fetch(chat, ann, his)).status_code == 200


@pytest.mark.parametrize("end", ["message", "history", "session"])
async def test_with_its_message_it_is_gone_for_others(
    chat: ChatApi, ann: Person, bob: Person, room: Json, end: str
) -> None:
    attachment = await attached(chat, ann)
    message = await named_in(chat, ann, room, attachment)
    path = {"message": f"/messages/{message['id']}", "history": "/messages", "session": ""}[end]
    assert (await fetch(chat, bob, attachment)).status_code == 200

    await sent(chat, ann, "DELETE", f"/sessions/{room['id']}{path}")

    assert problem(await fetch(chat, bob, attachment)) == (404, "attachment-not-found")
    assert (await fetch(chat, ann, attachment)).status_code == 200
    assert await chat.rows("SELECT * FROM chat.message_attachments") == []


async def test_another_message_still_shows_it(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    attachment = await attached(chat, ann)
    first = await named_in(chat, ann, room, attachment)
    await named_in(chat, ann, room, attachment)

    await sent(chat, ann, "DELETE", f"/sessions/{room['id']}/messages/{first['id']}")

    assert (await fetch(chat, bob, attachment)).status_code == 200


async def test_a_deleted_message_shows_no_file(chat: ChatApi, ann: Person, room: Json) -> None:
    message = await named_in(chat, ann, room, await attached(chat, ann))

    await sent(chat, ann, "DELETE", f"/sessions/{room['id']}/messages/{message['id']}")

    shown = {found["id"]: found["attachments"] for found in await chat.history(ann, room)}
    assert shown[message["id"]] == []


async def test_bytes_that_are_gone_are_said_to_be(chat: ChatApi, ann: Person) -> None:
    attachment = await attached(chat, ann)
    await chat.app.state.storage.delete(storage_key(ann.id, UUID(attachment["id"])))

    assert problem(await fetch(chat, ann, attachment)) == (410, "bytes-missing")


async def test_a_storage_that_is_away_is_a_problem(chat: ChatApi, ann: Person) -> None:
    attachment = await attached(chat, ann)
    chat.app.state.storage = storage = MovableStorage(chat.app.state.storage)
    storage.is_away = True

    assert problem(await fetch(chat, ann, attachment)) == (503, "storage-unavailable")


async def test_no_connection_is_held_while_a_file_is_read(chat: ChatApi, ann: Person) -> None:
    attachment = await attached(chat, ann)
    chat.app.state.storage = PatientStorage(chat.app.state.storage, chat.app.state.database)

    assert (await fetch(chat, ann, attachment)).content == PNG


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ('filename="quo\\"te.png"', 'quo"te.png'),
        ('filename="a; filename=b.exe"', "a; filename=b.exe"),
        ('filename="a%0d%0aX: y"', "a%0d%0aX: y"),
        ('filename="\u202egnp.exe"', "gnp.exe"),
        ('filename="C:\\dir\\plan.txt"', "plan.txt"),
    ],
)
async def test_no_name_gets_out_of_its_header(chat: ChatApi, ann: Person, raw: str, name: str) -> None:
    disposition = f'--x\r\nContent-Disposition: form-data; name="file"; {raw}\r\n\r\n'
    body = disposition.encode() + PNG + b"\r\n--x--\r\n"
    headers = ann.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await chat.client.post(f"{API}/attachments", content=body, headers=headers)
    assert answer.status_code == 201, answer.text

    read = await fetch(chat, ann, answer.json())

    assert answer.json()["name"] == name
    assert "set-cookie" not in read.headers
    assert "x" not in read.headers
    [shown] = read.headers.get_list("content-disposition")
    message = Message()
    message["Content-Disposition"] = shown
    assert message.get_content_disposition() == "inline"
    assert {parameter for parameter, _ in message.get_params([], "content-disposition")} == {"inline", "filename"}
