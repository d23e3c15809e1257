"""The documents of both services, as they serve them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import agent_service.main
import chat_api.main
from agent_service.config import AgentSettings
from chat_api.config import ApiSettings
from shared.settings import Environment


@pytest.fixture(scope="session")
def chat_document() -> dict[str, Any]:
    return _plain(chat_api.main.create_app(ApiSettings(environment=Environment.TEST)).openapi())


@pytest.fixture(scope="session")
def agent_document() -> dict[str, Any]:
    return _plain(agent_service.main.create_app(AgentSettings(_env_file=None)).openapi())


@pytest.fixture(params=["chat_api", "agent_service"])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the two: a test that takes it runs for both."""
    name = {"chat_api": "chat_document", "agent_service": "agent_document"}[request.param]
    found: dict[str, Any] = request.getfixturevalue(name)
    return found


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As a client gets it: what JSON cannot say is not in it."""
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain
