"""Stored bytes without a document: what a process that died in the middle of an upload leaves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.documents.intake import ORPHAN_AGE, Create, Intake, remove_orphans
from chat_api.documents.storage import storage_key
from chat_api.documents.upload import document_reader
from chat_api.kit.models import new_id
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.documents import stored_files, uploaded
from tests.fakes.clock import MovableClock


async def cleaned(chat: ChatApi, later: timedelta) -> int:
    clock = MovableClock()
    clock.advance(later)
    removed: int = await remove_orphans(chat.app.state.database, chat.app.state.storage, clock)
    return removed


async def test_bytes_without_a_document_are_removed_after_an_hour(
    chat: ChatApi, ann: Person, bot: Json, tmp_path: Path
) -> None:
    kept, deleted = await uploaded(chat, ann, bot, ("kept.txt", b"kept"), ("deleted.txt", b"deleted"))
    await chat.client.delete(f"{API}/documents/{deleted['id']}", headers=ann.headers)
    (tmp_path / "source").write_bytes(b"left behind")
    orphan = storage_key(UUID(bot["id"]), new_id())
    await chat.app.state.storage.put(orphan, tmp_path / "source")
    strangers = ("notes.txt", "team/notes.txt", f"{bot['id']}/notes.txt", f"{bot['id'].upper()}/{new_id()}")
    of_another_installation = storage_key(new_id(), new_id())
    theirs = (*strangers, of_another_installation)
    for key in theirs:
        await chat.app.state.storage.put(key, tmp_path / "source")

    assert await cleaned(chat, ORPHAN_AGE - timedelta(minutes=1)) == 0
    assert orphan in stored_files(chat)
    assert await cleaned(chat, ORPHAN_AGE + timedelta(minutes=1)) == 1

    # What is being deleted is the purge job's, and what is not ours is nobody's business.
    ours = {f"{bot['id']}/{document['id']}" for document in (kept, deleted)}
    assert set(stored_files(chat)) == {*ours, *theirs}


async def test_a_write_that_was_cut_short_leaves_a_file_for_an_hour(chat: ChatApi, tmp_path: Path) -> None:
    staged = tmp_path / "documents" / storage_key(new_id(), new_id())
    staged = staged.with_name(f"{staged.name}#1")
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")

    assert await cleaned(chat, ORPHAN_AGE - timedelta(minutes=1)) == 0
    assert await cleaned(chat, ORPHAN_AGE + timedelta(minutes=1)) == 1
    assert not staged.exists()


async def test_a_commit_that_got_no_connection_leaves_nothing(
    chat: ChatApi, ann: Person, bot: Json, tmp_path: Path
) -> None:
    intake = Intake(chat.app.state.database, chat.app.state.storage, chat.clock, chat.app.state.plans)
    files = await document_reader(tmp_path, max_bytes=100).text("a.txt", "x")

    async def find_none_free(db: AsyncSession, create: Create) -> None:
        assert len(stored_files(chat)) == 1
        raise NoConnectionFree

    with pytest.raises(NoConnectionFree):
        await intake.accept(UUID(bot["id"]), ann.id, files, find_none_free)

    assert stored_files(chat) == {}


async def test_a_commit_whose_outcome_is_unknown_keeps_the_bytes(
    chat: ChatApi, ann: Person, bot: Json, tmp_path: Path
) -> None:
    """The row may be there after all. If it is not, the bytes go with the other orphans."""
    intake = Intake(chat.app.state.database, chat.app.state.storage, chat.clock, chat.app.state.plans)
    files = await document_reader(tmp_path, max_bytes=100).text("a.txt", "x")

    async def break_off(db: AsyncSession, create: Create) -> None:
        await create()
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await intake.accept(UUID(bot["id"]), ann.id, files, break_off)

    assert list(stored_files(chat).values()) == [b"x"]
    assert await chat.rows("SELECT * FROM chat.documents") == []
    assert await cleaned(chat, ORPHAN_AGE + timedelta(minutes=1)) == 1
    assert stored_files(chat) == {}
