"""The chat API with small plans."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tests.factories.chat import API, ChatApi, Json, Person, chat_api

WithPlans = Callable[..., AbstractAsyncContextManager[ChatApi]]
"""A process of the API, where the plan `free` is what is handed in, and `pro` has no limits."""

_NO_LIMITS = dict.fromkeys(("messages_per_day", "tokens_per_day", "documents", "storage_bytes"))


def plans_over(database_url: str, redis_url: str) -> WithPlans:
    @asynccontextmanager
    async def start(**free: Any) -> AsyncIterator[ChatApi]:
        plans = {"free": _NO_LIMITS | free, "pro": _NO_LIMITS}
        async with chat_api(database_url, redis_url, plans=plans, user_sends_burst=10_000) as chat:
            yield chat

    return start


async def usage(chat: ChatApi, person: Person) -> Json:
    answer = await chat.client.get(f"{API}/users/me/usage", headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def used(chat: ChatApi, person: Person, what: str) -> tuple[int, int | None]:
    """How much is used, and how much remains."""
    quota = (await usage(chat, person))[what]
    return quota["used"], quota["remaining"]
