"""The chat API and the agent on different service keys, in the middle of a rotation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from agent_service.config import AgentSettings
from agent_service.main import create_app
from chat_api.clients.connection import AgentConnection, AgentRefused
from chat_api.config import ApiSettings
from shared.settings import Environment

OLD, NEW = "the-old-service-key-long-enough-012345678", "the-new-service-key-long-enough-012345678"
STAGES: list[tuple[str, list[str]]] = [(OLD, []), (OLD, [NEW]), (NEW, [OLD]), (NEW, [])]
"""What docs/operations.md has an operator set, restart by restart: the current key, and those accepted beside it."""


def service_keys(stage: int) -> dict[str, Any]:
    current, previous = STAGES[stage]
    return {"service_key": SecretStr(current), "previous_service_keys": [SecretStr(key) for key in previous]}


@asynccontextmanager
async def connection(*, chat_api: int, agent: int) -> AsyncIterator[AgentConnection]:
    """The chat API's own way to the agent's own door. Nothing behind the door is started."""
    settings = AgentSettings(
        _env_file=None, environment=Environment.TEST, openai_api_key=SecretStr("a key"), **service_keys(agent)
    )
    transport = httpx.ASGITransport(create_app(settings))
    client = AgentConnection(ApiSettings(environment=Environment.TEST, **service_keys(chat_api)), transport=transport)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("chat_api", "agent"), [(first + back, first + 1 - back) for first in range(3) for back in range(2)]
)
async def test_whichever_is_restarted_first_they_understand_each_other(chat_api: int, agent: int) -> None:
    async with connection(chat_api=chat_api, agent=agent) as client:
        said = await client.call("GET", "/v1/providers", seconds=30)
    assert b"openai" in said


@pytest.mark.parametrize(("chat_api", "agent"), [(2, 0), (1, 3), (0, 3), (3, 0)])
async def test_a_step_left_out_or_a_dropped_key_is_refused(chat_api: int, agent: int) -> None:
    async with connection(chat_api=chat_api, agent=agent) as client:
        with pytest.raises(AgentRefused) as refused:
            await client.call("GET", "/v1/providers", seconds=30)
    assert refused.value.problem.code == "not-authenticated"
    told = refused.value.problem.model_dump_json() + repr(refused.value)
    assert OLD not in told
    assert NEW not in told
