"""The agent as an application, before scripted models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.config import AgentSettings
from agent_service.main import create_app
from shared.security import ServiceName, service_signer
from shared.settings import DEVELOPMENT_SERVICE_KEY, Environment
from tests.factories.passages import Library, open_library
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

OpenAgent = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[ScriptedModelServer]:
    with ScriptedModelServer() as server:
        yield server


@pytest.fixture
def service_token() -> str:
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    return signer.mint(ServiceName.CHAT_API.value)


@pytest.fixture
def agent_settings(scripted_model: ScriptedModelServer, tmp_path: Path) -> Callable[..., AgentSettings]:
    """Settings with both remote providers pointing at the scripted model. Nothing is read from the environment."""

    def make(**overrides: Any) -> AgentSettings:
        values: dict[str, Any] = {
            "environment": Environment.TEST,
            "data_dir": tmp_path,
            "default_provider": "openai",
            "openai_api_key": "openai-key",
            "openai_base_url": scripted_model.openai_url,
            "google_api_key": "google-key",
            "google_gemini_base_url": scripted_model.gemini_url,
            "model_retry_base_seconds": 0.01,
            "api_url": "http://chat-api.test",
        }
        return AgentSettings(_env_file=None, **(values | overrides))

    return make


@pytest.fixture
def open_agent(agent_settings: Callable[..., AgentSettings], service_token: str) -> OpenAgent:
    """A client of an agent with these settings, its token already shown."""

    @asynccontextmanager
    async def open_(**overrides: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app = create_app(agent_settings(**overrides))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            headers = {"Authorization": f"Bearer {service_token}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://agent.test", headers=headers) as client:
                yield client

    return open_


@pytest.fixture
async def agent(open_agent: OpenAgent) -> AsyncGenerator[httpx.AsyncClient]:
    async with open_agent() as client:
        yield client


@pytest.fixture
async def library(clean_database: Database, tmp_path: Path) -> AsyncGenerator[Library]:
    """Collections on this worker's database, with an embedder that needs no model."""
    async with open_library(clean_database.agent_url, data_dir=tmp_path, default_provider="openai") as library:
        yield library
