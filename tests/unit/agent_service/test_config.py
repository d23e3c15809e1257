"""Which provider answers, and what the settings refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.config import AgentSettings
from shared.contracts.chat import Provider
from shared.settings import SettingsError

_VARIABLES = (
    "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL",
    "COLLOQUY_DEFAULT_PROVIDER", "COLLOQUY_DEFAULT_MODEL", "COLLOQUY_LOCAL_MODEL_PATH",
    "COLLOQUY_EMBEDDING_PROVIDER", "COLLOQUY_EMBEDDING_MODEL", "COLLOQUY_EMBEDDING_DIMENSIONS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLLOQUY_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("environment", "provider"),
    [
        ({}, Provider.LOCAL),
        ({"OPENAI_API_KEY": "k"}, Provider.OPENAI),
        ({"GOOGLE_API_KEY": "k"}, Provider.GOOGLE_GENAI),
        ({"GOOGLE_API_KEY": "k", "OPENAI_API_KEY": "k"}, Provider.GOOGLE_GENAI),
        ({"GOOGLE_API_KEY": "k", "COLLOQUY_DEFAULT_PROVIDER": "local"}, Provider.LOCAL),
        ({"GOOGLE_API_KEY": "", "OPENAI_API_KEY": ""}, Provider.LOCAL),
    ],
)
def test_the_first_provider_that_has_a_key_answers(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], provider: Provider
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert AgentSettings.load().provider is provider


def test_the_default_model_belongs_to_the_default_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("COLLOQUY_DEFAULT_MODEL", "mine")
    defaults = AgentSettings.load().model_defaults
    assert defaults.models[Provider.OPENAI] == "mine"
    assert defaults.models[Provider.GOOGLE_GENAI] != "mine"


def test_a_compatible_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not AgentSettings.load().has_openai
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9999/v1")
    assert AgentSettings.load().has_openai


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", "not an address"),
        ("COLLOQUY_DEFAULT_PROVIDER", "nobody"),
        ("COLLOQUY_MODEL_ATTEMPTS", "0"),
        ("COLLOQUY_SERVICE_KEY", "short"),
        ("COLLOQUY_ENVIRONMENT", "production"),
    ],
)
def test_settings_that_cannot_work_are_told_plainly(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        AgentSettings.load()
    assert "Traceback" not in str(refused.value)
    assert value not in str(refused.value) or name == "COLLOQUY_ENVIRONMENT"


@pytest.mark.parametrize(
    ("environment", "name", "dimensions"),
    [
        ({}, "local:all-MiniLM-L6-v2", 384),
        ({"OPENAI_API_KEY": "k"}, "local:all-MiniLM-L6-v2", 384),
        ({"COLLOQUY_EMBEDDING_DIMENSIONS": "384"}, "local:all-MiniLM-L6-v2", 384),
        ({"COLLOQUY_EMBEDDING_PROVIDER": "", "COLLOQUY_EMBEDDING_DIMENSIONS": ""}, "local:all-MiniLM-L6-v2", 384),
        (
            {"COLLOQUY_EMBEDDING_PROVIDER": "openai", "OPENAI_API_KEY": "k"},
            "openai:text-embedding-3-small",
            1536,
        ),
        (
            {
                "COLLOQUY_EMBEDDING_PROVIDER": "google_genai",
                "GOOGLE_API_KEY": "k",
                "COLLOQUY_EMBEDDING_DIMENSIONS": "768",
            },
            "google_genai:gemini-embedding-001",
            768,
        ),
    ],
)
def test_the_embedding_model_is_chosen_apart_from_the_chat_model(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str, dimensions: int
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    model = AgentSettings.load().configured_embedding_model
    assert (model.name, model.dimensions) == (name, dimensions)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"COLLOQUY_EMBEDDING_PROVIDER": "openai"}, "needs OPENAI_API_KEY or OPENAI_BASE_URL"),
        ({"COLLOQUY_EMBEDDING_PROVIDER": "google_genai"}, "needs GOOGLE_API_KEY"),
        ({"COLLOQUY_EMBEDDING_DIMENSIONS": "768"}, "gives 384 dimensions, not 768"),
        ({"COLLOQUY_EMBEDDING_DIMENSIONS": "385"}, "COLLOQUY_EMBEDDING_DIMENSIONS: Input should be 384"),
        ({"COLLOQUY_EMBEDDING_MODEL": "another"}, "not another"),
    ],
)
def test_an_embedding_model_that_cannot_work_is_told_plainly(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=says):
        AgentSettings.load()
