from __future__ import annotations

import pytest

from tests.factories.chat import ChatApi
from tests.factories.webhooks import Webhooks


@pytest.fixture
async def hooks(chat: ChatApi) -> Webhooks:
    return Webhooks(chat)
