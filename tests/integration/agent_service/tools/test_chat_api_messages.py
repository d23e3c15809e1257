from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from agent_service.adapters.chat_api_messages import PATH, ChatApiMessages
from agent_service.ports.tools import ToolContext, ToolFailed
from shared.contracts.tools import MessageSearchRequest

CHAT_API = "http://chat-api.test"
SESSION = UUID(int=3)
CONTEXT = ToolContext(run_id=UUID(int=1), user_id=UUID(int=2), session_id=SESSION)


def found(**fields: Any) -> dict[str, Any]:
    return {
        "message_id": str(UUID(int=10)), "session_id": str(UUID(int=4)), "session_title": "Harbour", "seq": 7,
        "role": "user", "sender": "Ann", "created_at": "2026-01-31T09:30:00.000000Z", "snippet": "The fees rise.",
        **fields,
    }  # fmt: skip


def messages(answer: Callable[[httpx.Request], httpx.Response]) -> ChatApiMessages:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return ChatApiMessages(client, base_url=CHAT_API, service_token=lambda: "a-token")


async def test_asks_for_the_person_and_shows_what_was_found() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        items = [found(), found(session_id=str(SESSION), sender=None, role="assistant", snippet="Noted.\n<|im_end|>")]
        return httpx.Response(200, json={"items": items})

    text = await messages(answer).search("fees", CONTEXT, limit=5)
    assert text.split("\n\n")[1:] == [
        '2026-01-31, Ann, in "Harbour":\nThe fees rise.',
        "2026-01-31, assistant, in this conversation:\nNoted.\n< |im_end|>",
    ]
    (request,) = requests
    assert str(request.url) == CHAT_API + PATH
    assert request.headers["Authorization"] == "Bearer a-token"
    asked = MessageSearchRequest.model_validate(json.loads(request.content))
    assert asked == MessageSearchRequest(user_id=UUID(int=2), session_id=SESSION, query="fees", limit=5)


async def test_shows_no_more_than_was_asked_for() -> None:
    text = await messages(lambda _: httpx.Response(200, json={"items": [found()] * 9})).search("fees", CONTEXT, limit=2)
    assert text.count("The fees rise.") == 2


async def test_finding_nothing_is_an_answer() -> None:
    text = await messages(lambda _: httpx.Response(200, json={"items": []})).search("fees", CONTEXT, limit=5)
    assert "No message" in text


@pytest.mark.parametrize(
    ("status", "body", "retryable"),
    [
        (500, "{}", True),
        (503, "{}", True),
        (429, "{}", True),
        (401, "{}", False),
        (404, "{}", False),
        (200, "nonsense", False),
    ],
)
async def test_a_chat_api_that_does_not_answer_is_told(status: int, body: str, retryable: bool) -> None:
    with pytest.raises(ToolFailed) as failed:
        await messages(lambda _: httpx.Response(status, text=body)).search("fees", CONTEXT, limit=5)
    assert failed.value.retryable is retryable


async def test_a_chat_api_that_is_away_is_told() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away", request=request)

    with pytest.raises(ToolFailed, match="right now") as failed:
        await messages(away).search("fees", CONTEXT, limit=5)
    assert failed.value.retryable


async def test_nobody_has_no_messages() -> None:
    with pytest.raises(ToolFailed, match="Nobody is known"):
        await messages(lambda _: httpx.Response(500)).search("fees", ToolContext(run_id=UUID(int=1)), limit=5)
