"""Sessions to files and back, from a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from chat_api.cli.transfer import CannotTransfer, export_all, export_one, import_file, write_export
from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.export import ExportCutShort, ExportScope, open_export
from chat_api.transfer.formats import ExportFormat
from tests.factories.chat import ChatApi, Person
from tests.factories.transfers import a_tree, content_of, exported_json


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_one_session_to_a_file_and_back(
    chat: ChatApi, ann: Person, bob: Person, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await chat.session(ann, title="Tides / today")
    await chat.said(ann, session, "When is low tide?")
    file = tmp_path / "tides.json"
    await export_one(chat.settings, UUID(session["id"]), ExportFormat.JSON, file)

    written, asked = json.loads(file.read_text()), await exported_json(chat, ann, session["id"])
    assert content_of(written) == content_of(asked)
    assert names_in(tmp_path) == ["tides.json"], "nothing else is left"
    assert f"wrote {file}" in capsys.readouterr().out
    await import_file(chat.settings, file, "BOB@example.org")
    assert "imported 1 sessions with 2 messages" in capsys.readouterr().out
    await import_file(chat.settings, file, "bob")
    assert "1 were there already" in capsys.readouterr().out
    rows = await chat.rows("SELECT title FROM chat.sessions WHERE owner_id = $1", bob.id)
    assert [row["title"] for row in rows] == ["Tides / today"]


async def test_all_sessions_of_a_person(chat: ChatApi, ann: Person, bob: Person, tmp_path: Path) -> None:
    ids = []
    for title in ("Tides / today", "Tides / today", "..", "x" * 200):
        session = await chat.session(ann, title=title, reply_policy="never")
        await chat.said(ann, session, f"About {title}")
        ids.append(session["id"])
    await chat.session(bob)
    folder = tmp_path / "out" / "all"
    for kind in ExportFormat:
        await export_all(chat.settings, "ann", kind, folder)
        files = [path for path in folder.iterdir() if path.suffix == f".{kind.suffix}"]
        assert sorted(path.stem[-36:] for path in files) == sorted(ids)


async def test_what_is_left_out_is_told(
    chat: ChatApi, ann: Person, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([a_tree()]))
    await import_file(chat.settings, file, "ann")
    said = capsys.readouterr().out
    assert "left out: 2 other branches" in said
    assert "left out: 1 hidden" in said


async def test_a_file_that_is_none_and_a_person_who_is_not_there(chat: ChatApi, ann: Person, tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    file.write_text("[1]")
    with pytest.raises(InvalidImport):
        await import_file(chat.settings, file, "ann")
    with pytest.raises(CannotTransfer, match="nobody called 'nobody'"):
        await import_file(chat.settings, file, "nobody")
    assert not await chat.rows("SELECT 1 FROM chat.sessions")


def run(*arguments: str, **environment: str) -> Result:
    from chat_api.cli.main import colloquy

    return CliRunner().invoke(colloquy, ["sessions", *arguments], env=environment)


@pytest.mark.parametrize(
    "arguments", [["export"], ["export", str(UUID(int=1)), "--user", "ann"], ["export", "no-id"], ["import", "no-file"]]
)
def test_what_makes_no_sense_is_a_mistake_of_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


async def test_names_of_files_fit_whatever_the_title_is(chat: ChatApi, ann: Person, tmp_path: Path) -> None:
    for title in ("🌊" * 200, "ü" * 200):
        await chat.session(ann, title=title)
    await export_all(chat.settings, "ann", ExportFormat.MARKDOWN, tmp_path)
    assert {name[0] for name in names_in(tmp_path)} == {"🌊", "ü"}


async def test_a_session_that_is_deleted_meanwhile_leaves_no_half(chat: ChatApi, ann: Person, tmp_path: Path) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    export = await open_export(chat.app.state.database, chat.clock, ExportScope(UUID(session["id"]), None))
    await chat.rows("DELETE FROM chat.sessions WHERE id = $1", UUID(session["id"]))
    with pytest.raises(ExportCutShort):
        await write_export(export, ExportFormat.CSV, tmp_path / "tides.csv")
    assert names_in(tmp_path) == []


async def test_a_file_that_cannot_be_written_is_not_the_databases_fault(
    chat: ChatApi, ann: Person, tmp_path: Path
) -> None:
    session = await chat.session(ann)
    with pytest.raises(CannotTransfer, match="cannot be written"):
        await export_one(chat.settings, UUID(session["id"]), ExportFormat.JSON, tmp_path / "none" / "tides.json")
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotTransfer, match="cannot be written"):
        await export_all(chat.settings, "ann", ExportFormat.JSON, tmp_path / "taken")
