"""The chat API over a database that each test finds empty."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.factories.chat import ChatApi, Person, chat_api
from tests.stores import Database


@pytest.fixture
async def chat(clean_database: Database, redis_url: str) -> AsyncIterator[ChatApi]:
    """One process of the chat API, with Valkey, and an agent that the test scripts."""
    # Walks over all routes read every stream to its end.
    async with chat_api(clean_database.api_url, redis_url, document_watch_seconds=0.2) as chat:
        yield chat


@pytest.fixture
async def ann(chat: ChatApi) -> Person:
    return await chat.person("ann")


@pytest.fixture
async def bob(chat: ChatApi) -> Person:
    return await chat.person("bob")
