"""The settings of keys that are accepted beside the current ones: as strict as those, and as silent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_service.config import AgentSettings
from chat_api.config import ApiSettings
from shared.settings import DEVELOPMENT_SECRET_KEY, DEVELOPMENT_SERVICE_KEY, CommonSettings, Environment, SettingsError

CURRENT = "the-current-key-that-is-long-enough-0123456789"
OLD = "an-old-key-that-is-long-enough-0123456789-old"
OLDER = "an-older-key-that-is-long-enough-0123456789-x"
SHORT = "too-short-to-be-a-key"
VARIABLES = ["COLLOQUY_PREVIOUS_SECRET_KEYS", "COLLOQUY_PREVIOUS_SERVICE_KEYS"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLOQUY_DATA_DIR", str(tmp_path))


def refusal(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> str:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        CommonSettings.load()
    return str(caught.value)


def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ENVIRONMENT", "production"), ("SECRET_KEY", CURRENT), ("SERVICE_KEY", OLDER)):
        monkeypatch.setenv(f"COLLOQUY_{name}", value)


@pytest.mark.parametrize("settings", [ApiSettings, AgentSettings])
def test_they_come_after_the_current_one(monkeypatch: pytest.MonkeyPatch, settings: type[CommonSettings]) -> None:
    in_production(monkeypatch)
    monkeypatch.setenv("COLLOQUY_PREVIOUS_SECRET_KEYS", json.dumps([OLD, OLDER]))
    monkeypatch.setenv("COLLOQUY_PREVIOUS_SERVICE_KEYS", json.dumps([OLD]))
    loaded = settings.load()
    assert list(loaded.secret_keys) == [CURRENT, OLD, OLDER]
    assert list(loaded.service_keys) == [OLDER, OLD]


@pytest.mark.parametrize("value", [None, "", "[]"])
def test_there_need_be_none(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Compose hands on an empty text for what `.env` does not name."""
    in_production(monkeypatch)
    if value is not None:
        for variable in VARIABLES:
            monkeypatch.setenv(variable, value)
    loaded = CommonSettings.load()
    assert (list(loaded.secret_keys), list(loaded.service_keys)) == ([CURRENT], [OLDER])


@pytest.mark.parametrize("quote", ["", "'"])
def test_dotenv_writes_them_as_the_documentation_does(monkeypatch: pytest.MonkeyPatch, quote: str) -> None:
    Path(".env").write_text(f'COLLOQUY_PREVIOUS_SECRET_KEYS={quote}["{OLD}"]{quote}\n')
    assert CommonSettings.load().secret_keys.previous == (OLD,)


@pytest.mark.parametrize("environment", list(Environment))
@pytest.mark.parametrize("variable", VARIABLES)
def test_short_ones_stop_the_start_everywhere(
    monkeypatch: pytest.MonkeyPatch, environment: Environment, variable: str
) -> None:
    in_production(monkeypatch)
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", environment)
    said = refusal(monkeypatch, variable, json.dumps([OLD, SHORT]))
    assert said == f"Each key of {variable} needs 32 bytes or more"


@pytest.mark.parametrize("known", [DEVELOPMENT_SECRET_KEY, DEVELOPMENT_SERVICE_KEY])
@pytest.mark.parametrize("variable", VARIABLES)
def test_known_ones_stop_the_start_outside_development(
    monkeypatch: pytest.MonkeyPatch, variable: str, known: str
) -> None:
    in_production(monkeypatch)
    said = refusal(monkeypatch, variable, json.dumps([known]))
    assert said == f"{variable} must not have the known keys of development"
    monkeypatch.setenv("COLLOQUY_ENVIRONMENT", "development")
    assert CommonSettings.load().environment is Environment.DEVELOPMENT


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "written", [OLD, f"{OLD},{OLDER}", f'["{OLD}"', f'"{OLD}"', f'[["{OLD}"]]', f'{{"a":"{OLD}"}}']
)
def test_what_is_no_list_is_refused_without_being_quoted(
    monkeypatch: pytest.MonkeyPatch, variable: str, written: str
) -> None:
    said = refusal(monkeypatch, variable, written)
    assert variable.removeprefix("COLLOQUY_").lower() in said.lower()
    assert OLD not in said
    assert OLDER not in said


def test_they_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    in_production(monkeypatch)
    for variable in VARIABLES:
        monkeypatch.setenv(variable, json.dumps([OLD]))
    loaded = ApiSettings.load()
    for text in (
        repr(loaded),
        str(loaded),
        loaded.model_dump_json(),
        str(loaded.model_dump()),
        repr(loaded.secret_keys),
    ):
        assert OLD not in text
        assert CURRENT not in text
