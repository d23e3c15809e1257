"""Settings of applications in tests, without reading the environment for each of them.

Working out which variable belongs to which field takes longer than checking the values, and a run of the tests makes
some thousands of applications.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from chat_api.config import ApiSettings
from shared.settings import Environment


class _GivenSettings(ApiSettings):
    """The same settings, of nothing but what is handed in."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def api_settings(**given: Any) -> ApiSettings:
    """`ApiSettings` of the environment and of what is given, as `ApiSettings` itself would make them. No `.env`."""
    variables = frozenset(item for item in os.environ.items() if item[0].upper().startswith("COLLOQUY_"))
    return _GivenSettings(**{**_from_environment(variables), "environment": Environment.TEST, **given})


@functools.cache
def _from_environment(_: frozenset[tuple[str, str]]) -> dict[str, Any]:
    """What the environment sets, by field. The argument is what the answer depends on."""
    return EnvSettingsSource(ApiSettings)()
