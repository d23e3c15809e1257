"""One message of the protocol, sent by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.factories.chat import ChatApi, Person

Say = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def say(chat: ChatApi) -> Say:
    async def send(person: Person, method: str, params: Any = None, *, message_id: Any = 1, **headers: str) -> Any:
        message = {"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}
        sent = {name: value for name, value in message.items() if value is not None}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await chat.client.post("/mcp", json=sent, headers=person.headers | named)

    return send
