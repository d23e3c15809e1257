"""`.env.example` is the one list of settings: it names each of them, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_settings import BaseSettings

from agent_service.config import AgentSettings
from chat_api.config import ApiSettings

EXAMPLE = Path(__file__).resolve().parents[3] / ".env.example"


def variables(settings: type[BaseSettings]) -> set[str]:
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else f"COLLOQUY_{name.upper()}"
        for name, field in settings.model_fields.items()
    }


def test_it_names_every_setting_once() -> None:
    named = re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == variables(ApiSettings) | variables(AgentSettings)


def test_nothing_in_it_is_set() -> None:
    assert [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")] == []
