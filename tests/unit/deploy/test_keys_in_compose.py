"""Who is given the keys that are accepted while they are changed: whoever has the current one, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

SERVICES = yaml.safe_load((Path(__file__).resolve().parents[3] / "docker-compose.yml").read_text())["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


@pytest.mark.parametrize("name", OURS)
def test_previous_keys_go_where_the_current_one_goes(name: str) -> None:
    environment = SERVICES[name]["environment"]
    for kind in ("SECRET", "SERVICE"):
        has_current = environment[f"COLLOQUY_{kind}_KEY"].startswith(f"${{COLLOQUY_{kind}_KEY:?")
        previous = environment.get(f"COLLOQUY_PREVIOUS_{kind}_KEYS")
        assert previous == (f"${{COLLOQUY_PREVIOUS_{kind}_KEYS:-}}" if has_current else None)


def test_the_agent_gets_no_key_that_signs_access_tokens() -> None:
    assert "COLLOQUY_PREVIOUS_SECRET_KEYS" not in SERVICES["agent"]["environment"]
    assert "COLLOQUY_PREVIOUS_SERVICE_KEYS" in SERVICES["agent"]["environment"]
