"""Figures counted again, from a terminal."""

from __future__ import annotations

import pytest

from chat_api.analytics.folding import fold
from chat_api.cli.analytics import recount
from tests.factories.chat import ChatApi, Person


async def test_differences_are_told_and_mended_if_wanted(
    chat: ChatApi, ann: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    await chat.said(ann, await chat.session(ann))
    await fold(chat.app.state.database)
    assert await recount(chat.settings, repair=False)
    assert "Every figure is what a recount gives" in capsys.readouterr().out

    await chat.rows("UPDATE chat.analytics_user_days SET number = number + 2 WHERE subject = 'message'")
    assert not await recount(chat.settings, repair=False)
    assert f"{ann.id}: message user: -2, +0 tokens" in capsys.readouterr().out

    assert await recount(chat.settings, repair=True)
    assert "1 sums mended" in capsys.readouterr().out
    assert await recount(chat.settings, repair=False)
