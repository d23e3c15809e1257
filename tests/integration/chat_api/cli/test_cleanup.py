"""`colloquy sessions cleanup`: it says what it did, and what it would do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from chat_api.cli.cleanup import clean_up
from chat_api.cli.main import colloquy
from chat_api.config import DEFAULT_PLAN, Plan
from tests.factories.chat import ChatApi, Person


async def idle_sessions(chat: ChatApi, owner: Person, count: int) -> None:
    for _ in range(count):
        await chat.session(owner)
    await chat.rows("UPDATE chat.sessions SET last_activity_at = $1", datetime.now(UTC) - timedelta(days=40))


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines for the person, without the events that this process logs."""
    return [line for line in capsys.readouterr().out.splitlines() if "[info" not in line]


async def archived(chat: ChatApi) -> int:
    return len(await chat.rows("SELECT FROM chat.sessions WHERE status = 'archived'"))


async def test_idle_sessions(chat: ChatApi, ann: Person, capsys: pytest.CaptureFixture[str]) -> None:
    await idle_sessions(chat, ann, 2)

    await clean_up(chat.settings, days_old=30, dry_run=True)
    assert said(capsys) == ["2 sessions would be archived"]
    assert await archived(chat) == 0
    await clean_up(chat.settings, days_old=30, dry_run=False)

    assert said(capsys) == ["archived 2 sessions"]
    assert await archived(chat) == 2
    [entry] = await chat.rows("SELECT actor_id, details FROM chat.audit_log")
    assert (entry["actor_id"], entry["details"]) == (None, {"days_old": 30, "sessions": 2})


async def test_what_no_plan_keeps(chat: ChatApi, ann: Person, capsys: pytest.CaptureFixture[str]) -> None:
    await idle_sessions(chat, ann, 1)
    settings = chat.settings.model_copy(update={"plans": {DEFAULT_PLAN: Plan(retention_days=30)}})

    await clean_up(settings, days_old=None, dry_run=True)
    await clean_up(settings, days_old=None, dry_run=False)

    assert said(capsys) == ["1 session would be removed", "removed 1 session"]
    assert await chat.rows("SELECT FROM chat.sessions") == []


def test_what_makes_no_sense_is_told() -> None:
    told = CliRunner().invoke(colloquy, ["sessions", "cleanup", "--days-old", "0"])

    assert told.exit_code == 2
    assert "0 is not in the range" in told.output
