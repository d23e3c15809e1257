"""Which of PostgreSQL's programs are taken, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_api.cli.postgres_tools import PROGRAMS, ToolsMissing, connection, find_tools


def install(folder: Path, version: str, *programs: str) -> Path:
    folder.mkdir()
    for program in programs or PROGRAMS:
        path = folder / program
        path.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")
        path.chmod(0o755)
    return folder


def test_the_first_that_are_new_enough_are_taken(tmp_path: Path) -> None:
    old = install(tmp_path / "15", "15.9 (Debian 15.9-1)")
    half = install(tmp_path / "half", "18.1", "pg_dump", "psql")
    newer = install(tmp_path / "19", "19beta1")
    tools = find_tools(18, [tmp_path / "nowhere", old, half, newer])
    assert (tools.folder, tools.major) == (newer, 19)
    assert find_tools(15, [old, newer]).folder == old


def test_without_one_it_is_said_what_is_wanted_and_what_is_there(tmp_path: Path) -> None:
    old = install(tmp_path / "15", "15.9")
    with pytest.raises(ToolsMissing, match=r"server is PostgreSQL 18, .* \(found: 15 in .*/15\)"):
        find_tools(18, [old])


def test_the_password_is_in_the_environment_alone() -> None:
    where, environment = connection("postgresql://own%20er:s%2Fcret@127.0.0.1:5433/colloquy?sslmode=require")
    assert where == "postgresql://own%20er@127.0.0.1:5433/colloquy?sslmode=require"
    assert environment["PGPASSWORD"] == "s/cret"


def test_what_a_person_set_for_their_own_psql_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere.example")
    _, environment = connection("postgresql://owner@127.0.0.1/colloquy")
    assert "PGHOST" not in environment
    assert "PGPASSWORD" not in environment
