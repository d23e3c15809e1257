"""An administrator who signed in, beside people who are none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.factories.admin_pages import HASH, AdminBrowser, admin_browser
from tests.factories.chat import ChatApi, Person
from tests.fakes.password_hasher import RecordingHasher


@pytest.fixture
def passwords(chat: ChatApi) -> RecordingHasher:
    """Before anybody opens a page: they take what the application has then."""
    chat.app.state.passwords = hasher = RecordingHasher()
    return hasher


@pytest.fixture
async def ada(chat: ChatApi, passwords: RecordingHasher) -> Person:
    """An administrator."""
    person = await chat.person("ada")
    await chat.rows("UPDATE chat.users SET is_admin = true, password_hash = $2 WHERE id = $1", person.id, HASH)
    return person


@pytest.fixture
async def browser(chat: ChatApi, ada: Person) -> AsyncIterator[AdminBrowser]:
    """Nobody has signed in with it yet."""
    async with admin_browser(chat.app) as browser:
        yield browser


@pytest.fixture
async def pages(browser: AdminBrowser, ada: Person) -> AdminBrowser:
    """Ada's, signed in."""
    answer = await browser.sign_in("ada")
    assert answer.status_code == 303, answer.text
    return browser
