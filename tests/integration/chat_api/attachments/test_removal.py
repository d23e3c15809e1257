"""What nobody named for a day is removed, and nothing else."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from chat_api.attachments.removal import UNNAMED_AGE, remove_orphans, remove_unnamed
from chat_api.attachments.service import storage_key
from chat_api.documents.intake import remove_orphans as remove_orphaned_documents
from chat_api.kit.address import dsn
from chat_api.kit.models import new_id
from chat_api.kit.storage import StorageUnavailable
from chat_api.worker import remove_unnamed_attachments
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.documents import stored_files
from tests.fakes.storage import MovableStorage


def ground(chat: ChatApi) -> tuple[Any, Any, Any]:
    return chat.app.state.database, chat.app.state.storage, chat.clock


async def ids(chat: ChatApi) -> set[str]:
    return {str(row["id"]) for row in await chat.rows("SELECT id FROM chat.attachments")}


def key_of(attachment: Json, owner: Person) -> str:
    return storage_key(owner.id, UUID(attachment["id"]))


def keys(*attachments: Json, owner: Person) -> set[str]:
    return {key_of(attachment, owner) for attachment in attachments}


async def uploaded_before(chat: ChatApi, age: timedelta, *attachments: Json) -> None:
    """Make rows of that age: those of some attachments, or all."""
    await chat.rows(
        "UPDATE chat.attachments SET created_at = $1 WHERE id = ANY($2::uuid[]) OR $2::uuid[] = '{}'",
        chat.clock.now() - age,
        [UUID(attachment["id"]) for attachment in attachments],
    )


def age(chat: ChatApi, key: str, hours: int = 2) -> None:
    """Make stored bytes old."""
    moment = chat.clock.now().timestamp() - hours * 3600
    os.utime(chat.settings.data_dir / "documents" / key, (moment, moment))


async def test_after_a_day_what_no_message_names_is_gone(chat: ChatApi, ann: Person) -> None:
    room = await chat.session(ann, reply_policy="never")
    named, deleted, forgotten = [await attached(chat, ann) for _ in range(3)]
    await chat.said(ann, room, attachment_ids=[named["id"]])
    message = (await chat.said(ann, room, attachment_ids=[deleted["id"]]))["message"]
    await chat.client.delete(f"{API}/sessions/{room['id']}/messages/{message['id']}", headers=ann.headers)
    fresh = await attached(chat, ann)
    await uploaded_before(chat, UNNAMED_AGE - timedelta(minutes=1))
    assert await remove_unnamed(*ground(chat)) == 0
    await uploaded_before(chat, UNNAMED_AGE + timedelta(minutes=1), named, deleted, forgotten)

    database, storage, clock = ground(chat)
    assert await remove_unnamed_attachments({"database": database, "storage": storage, "clock": clock}) == 2

    assert await ids(chat) == {named["id"], fresh["id"]}
    assert set(stored_files(chat)) == keys(named, fresh, owner=ann)
    assert forgotten["id"] not in await ids(chat)


async def test_more_than_one_batch(chat: ChatApi, ann: Person) -> None:
    await chat.rows(
        "INSERT INTO chat.attachments (id, owner_id, name, content_type, size_bytes, sha256, storage_key, created_at)"
        " SELECT gen_random_uuid(), $1, 'a', 'text/plain', 1, '', 'attachments/' || n, '2000-01-01'"
        " FROM generate_series(1, 230) n",
        ann.id,
    )

    assert await remove_unnamed(*ground(chat)) == 230
    assert await ids(chat) == set()


async def test_what_is_being_named_at_that_moment_stays(chat: ChatApi, ann: Person) -> None:
    """The message is stored, and not yet committed, when the removal looks."""
    room = await chat.session(ann, reply_policy="never")
    attachment, other = await attached(chat, ann), await attached(chat, ann)
    message = (await chat.said(ann, room))["message"]
    await uploaded_before(chat, UNNAMED_AGE * 2)
    assert chat.settings.database_url is not None
    connection = await asyncpg.connect(dsn(chat.settings.database_url.get_secret_value()))
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO chat.message_attachments (session_id, message_id, attachment_id) VALUES ($1, $2, $3)",
            UUID(room["id"]),
            UUID(message["id"]),
            UUID(attachment["id"]),
        )
        assert await remove_unnamed(*ground(chat)) == 1
        await transaction.commit()
    finally:
        await connection.close()

    assert await ids(chat) == {attachment["id"]}
    assert set(stored_files(chat)) == keys(attachment, owner=ann)
    assert other["id"] not in await ids(chat)


@pytest.mark.parametrize("round_", range(5))
async def test_a_message_sent_meanwhile_has_its_file_or_is_not_sent(chat: ChatApi, ann: Person, round_: int) -> None:
    room = await chat.session(ann, reply_policy="never")
    attachments = [await attached(chat, ann) for _ in range(4)]
    await uploaded_before(chat, UNNAMED_AGE * 2)

    sending = asyncio.gather(*(chat.send(ann, room, attachment_ids=[attachment["id"]]) for attachment in attachments))
    answers, removed = await asyncio.gather(sending, remove_unnamed(*ground(chat)))

    sent = {
        attachment["id"] for attachment, answer in zip(attachments, answers, strict=True) if answer.status_code == 201
    }
    assert {answer.status_code for answer in answers} <= {201, 404}
    assert await ids(chat) == sent
    assert len(sent) + removed == 4
    assert len(await chat.history(ann, room)) == len(sent)


async def test_bytes_that_no_row_has_are_removed(chat: ChatApi, ann: Person, tmp_path: Path) -> None:
    kept = await attached(chat, ann)
    (tmp_path / "source").write_bytes(b"x")
    orphan, young = storage_key(ann.id, new_id()), storage_key(ann.id, new_id())
    of_another_installation = storage_key(new_id(), new_id())
    for key in (orphan, young, of_another_installation, "attachments/else", "attachments/a/b"):
        await chat.app.state.storage.put(key, tmp_path / "source")
        age(chat, key, hours=0 if key == young else 2)
    age(chat, key_of(kept, ann))

    assert await remove_orphans(*ground(chat)) == 1

    others = {young, of_another_installation, "attachments/else", "attachments/a/b"}
    assert set(stored_files(chat)) == keys(kept, owner=ann) | others


async def test_attachments_are_no_orphans_among_the_documents(chat: ChatApi, ann: Person) -> None:
    kept = await attached(chat, ann)
    age(chat, key_of(kept, ann))

    assert await remove_orphaned_documents(*ground(chat)) == 0
    assert set(stored_files(chat)) == keys(kept, owner=ann)


async def test_bytes_that_could_not_be_removed_are_removed_later(chat: ChatApi, ann: Person) -> None:
    attachment = await attached(chat, ann)
    await uploaded_before(chat, UNNAMED_AGE * 2)
    database, real, clock = ground(chat)
    storage = MovableStorage(real)
    storage.is_away = True

    with pytest.raises(StorageUnavailable):
        await remove_unnamed(database, storage, clock)
    assert (await ids(chat), set(stored_files(chat))) == (set(), keys(attachment, owner=ann))
    storage.is_away = False
    age(chat, key_of(attachment, ann))

    assert await remove_orphans(database, storage, clock) == 1
    assert stored_files(chat) == {}
