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
