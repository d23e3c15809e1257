"""What one person may send at once, over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.factories.chat import API, ChatApi, chat_api
from tests.stores import Database

BURST = 3


@pytest.fixture
async def chat(clean_database: Database, redis_url: str) -> AsyncIterator[ChatApi]:
    # So slow that nothing comes back while the test runs.
    url = clean_database.api_url
    async with chat_api(url, redis_url, user_sends_burst=BURST, user_sends_per_second=0.01) as chat:
        yield chat


async def test_who_sends_too_much_is_told_to_wait_and_nothing_is_stored(chat: ChatApi) -> None:
    ann, bob = await chat.person("ann"), await chat.person("bob")
    session = await chat.session(ann)
    other = await chat.session(ann)
    for number in range(BURST):
        said = await chat.said(ann, session, f"message {number}")
    message = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"

    for refused in [
        await chat.send(ann, session, "one too many"),
        # Another session, and another reply, are no way around it.
        await chat.send(ann, other, "one too many"),
        await chat.client.post(f"{message}/regenerate", headers=ann.headers),
    ]:
        assert refused.status_code == 429
        assert refused.json()["code"] == "too-many-messages"
        assert 90 <= int(refused.headers["Retry-After"]) <= 100

    stored = await chat.rows("SELECT content FROM chat.messages WHERE role = 'user' ORDER BY seq")
    assert [row["content"] for row in stored] == [f"message {number}" for number in range(BURST)]
    assert len(await chat.rows("SELECT 1 FROM chat.runs")) == BURST
    # One person's haste is nobody else's.
    assert (await chat.said(bob, await chat.session(bob), "and I?"))["message"]["content"] == "and I?"
