"""The chat API with a storage that each test finds empty, and small limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories.chat import ChatApi, chat_api
from tests.stores import Database

LARGEST = 300_000


@pytest.fixture
async def chat(clean_database: Database, redis_url: str, tmp_path: Path) -> AsyncIterator[ChatApi]:
    async with chat_api(
        clean_database.api_url,
        redis_url,
        data_dir=tmp_path,
        max_attachment_bytes=LARGEST,
        # Less than an attachment: the route has a limit of its own.
        max_body_bytes=200_000,
    ) as chat:
        yield chat
