"""Settings: where they come from, and what stops the start with one plain line for each cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_api.config import ApiSettings
from shared.settings import DEVELOPMENT_SECRET_KEY, DEVELOPMENT_SERVICE_KEY, CommonSettings, Environment, SettingsError

STRONG = "a-key-of-a-test-that-is-long-enough-0123456789"
OTHER = "another-key-of-a-test-that-is-long-enough-0123"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to be in, with a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COLLOQUY_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def causes(caught: pytest.ExceptionInfo[SettingsError]) -> list[str]:
    return str(caught.value).split("\n")


def test_development_needs_nothing() -> None:
    loaded = CommonSettings.load()
    assert loaded.environment is Environment.DEVELOPMENT
    assert loaded.chat_api_base_url == "http://127.0.0.1:8000"
    assert loaded.agent_base_url == "http://127.0.0.1:8001"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_outside_development_both_keys_must_be_set(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", environment)
    with pytest.raises(SettingsError) as caught:
        CommonSettings.load()
    assert causes(caught) == [
        "COLLOQUY_SECRET_KEY must be set outside development",
        "COLLOQUY_SERVICE_KEY must be set outside development",
    ]


def test_the_known_keys_are_refused_in_each_others_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", "production")
    monkeypatch.setenv("COLLOQUY_SECRET_KEY", DEVELOPMENT_SERVICE_KEY)
    monkeypatch.setenv("COLLOQUY_SERVICE_KEY", DEVELOPMENT_SECRET_KEY)
    with pytest.raises(SettingsError) as caught:
        CommonSettings.load()
    assert len(causes(caught)) == 2


def test_production_with_keys_of_its_own_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", "production")
    monkeypatch.setenv("COLLOQUY_SECRET_KEY", STRONG)
    monkeypatch.setenv("COLLOQUY_SERVICE_KEY", OTHER)
    assert CommonSettings.load().environment is Environment.PRODUCTION


@pytest.mark.parametrize("environment", list(Environment))
def test_short_keys_are_refused_everywhere(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", environment)
    monkeypatch.setenv("COLLOQUY_SECRET_KEY", "x" * 31)
    monkeypatch.setenv("COLLOQUY_SERVICE_KEY", "short")
    with pytest.raises(SettingsError) as caught:
        CommonSettings.load()
    assert causes(caught) == [
        "COLLOQUY_SECRET_KEY needs 32 bytes or more",
        "COLLOQUY_SERVICE_KEY needs 32 bytes or more",
    ]


def test_each_wrong_value_is_one_line_that_quotes_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", "productoin")
    monkeypatch.setenv("COLLOQUY_API_PORT", "70000")
    monkeypatch.setenv("COLLOQUY_LOG_LEVEL", "loud-secret")
    with pytest.raises(SettingsError) as caught:
        ApiSettings.load()
    lines = causes(caught)
    assert [line.split(":")[0] for line in lines] == ["COLLOQUY_ENVIRONMENT", "COLLOQUY_API_PORT", "COLLOQUY_LOG_LEVEL"]
    assert "loud-secret" not in str(caught.value)


def test_a_list_that_is_not_json_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_CORS_ORIGINS", "https://spa.example")
    with pytest.raises(SettingsError) as caught:
        ApiSettings.load()
    assert len(causes(caught)) == 1
    assert "cors_origins" in str(caught.value)
    assert "spa.example" not in str(caught.value)


def test_the_environment_is_above_dotenv_and_dotenv_above_what_up_wrote(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    embedded = bare_environment / "data" / "embedded.env"
    embedded.write_text("COLLOQUY_API_PORT=1001\nCOLLOQUY_AGENT_PORT=1001\nCOLLOQUY_LOG_LEVEL=error\n")
    (bare_environment / ".env").write_text("COLLOQUY_API_PORT=2002\nCOLLOQUY_AGENT_PORT=2002\n")
    monkeypatch.setenv("COLLOQUY_API_PORT", "3003")
    loaded = CommonSettings.load()
    assert (loaded.api_port, loaded.agent_port, loaded.log_level) == (3003, 2002, "error")


def test_overrides_are_above_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_API_PORT", "3003")
    assert CommonSettings.load(api_port=4004).api_port == 4004


def test_dotenv_may_name_the_data_folder(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    monkeypatch.delenv("COLLOQUY_DATA_DIR")
    elsewhere = bare_environment / "elsewhere"
    elsewhere.mkdir()
    (bare_environment / ".env").write_text(f"COLLOQUY_DATA_DIR={elsewhere}\n")
    (elsewhere / "embedded.env").write_text("COLLOQUY_API_PORT=1001\n")
    loaded = CommonSettings.load()
    assert (loaded.api_port, loaded.data_dir) == (1001, elsewhere)


def test_secrets_do_not_show() -> None:
    loaded = ApiSettings.load(database_url="postgresql://api:hunter2@127.0.0.1/chat", secret_key=STRONG)
    for text in (repr(loaded), str(loaded), loaded.model_dump_json()):
        assert "hunter2" not in text
        assert STRONG not in text


def test_addresses_lose_their_last_slash() -> None:
    loaded = CommonSettings.load(agent_url="http://agent.test/", api_url="http://api.test/")
    assert (loaded.agent_base_url, loaded.chat_api_base_url) == ("http://agent.test", "http://api.test")
