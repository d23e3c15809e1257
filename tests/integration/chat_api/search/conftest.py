"""The agent service, as the chat API knows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from shared.security import ServiceName, service_signer
from tests.factories.chat import API, ChatApi, Json, Person

Search = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def search(chat: ChatApi) -> Search:
    """Ask for messages as the agent does for one of its tools."""
    signer = service_signer(
        chat.settings.service_key.get_secret_value(), issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API
    )
    headers = {"Authorization": f"Bearer {signer.mint(ServiceName.AGENT_SERVICE.value)}"}

    async def ask(person: Person, query: str, session: Json | None = None, **body: Any) -> httpx.Response:
        if session is not None:
            body["session_id"] = session["id"]
        return await chat.client.post(
            f"{API}/search/messages", json={"user_id": str(person.id), "query": query, **body}, headers=headers
        )

    return ask
