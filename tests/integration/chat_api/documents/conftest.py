"""The chat API with a storage that each test finds empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories.chat import ChatApi, Json, Person, chat_api
from tests.stores import Database


@pytest.fixture
async def chat(clean_database: Database, redis_url: str, tmp_path: Path) -> AsyncIterator[ChatApi]:
    async with chat_api(
        clean_database.api_url, redis_url, data_dir=tmp_path, max_document_bytes=100_000, max_upload_bytes=1_500_000
    ) as chat:
        yield chat


@pytest.fixture
async def bot(chat: ChatApi, ann: Person) -> Json:
    return await chat.bot(ann)
