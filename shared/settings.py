"""Settings that both services read: from the environment, then `.env`, then what `colloquy up` wrote.

`colloquy up` keeps the addresses and generated keys of its embedded servers in
`<data dir>/embedded.env`, so that `colloquy users create-admin` in another shell finds them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from shared.security import MIN_KEY_BYTES, KeyRing

# Known to everybody, so they are refused outside development and test.
DEVELOPMENT_SECRET_KEY = "development-only-secret-key-change-me-0123456789"  # noqa: S105 - public on purpose
DEVELOPMENT_SERVICE_KEY = "development-only-service-key-change-me-012345678"
EMBEDDED_ENV = "embedded.env"


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


def configured_data_dir() -> Path:
    """Where the data folder is, before there are settings: one of their files lies in it."""
    return Path(os.environ.get("COLLOQUY_DATA_DIR") or dotenv_values(".env").get("COLLOQUY_DATA_DIR") or ".data")


def _is_short(key: SecretStr) -> bool:
    return len(key.get_secret_value().encode()) < MIN_KEY_BYTES


def _ring(current: SecretStr, previous: Sequence[SecretStr]) -> KeyRing:
    return KeyRing(current.get_secret_value(), tuple(key.get_secret_value() for key in previous))


class SettingsError(Exception):
    """The settings cannot work. The message is for an operator: one line per cause."""


class CommonSettings(BaseSettings):
    """What the chat API, the agent and the command line have in common."""

    model_config = SettingsConfigDict(
        env_prefix="COLLOQUY_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    environment: Environment = Environment.DEVELOPMENT
    data_dir: Path = Path(".data")
    secret_key: SecretStr = SecretStr(DEVELOPMENT_SECRET_KEY)
    previous_secret_keys: list[SecretStr] = Field(
        default_factory=list, description="Accepted beside `secret_key` while it is changed, as JSON."
    )
    service_key: SecretStr = SecretStr(DEVELOPMENT_SERVICE_KEY)
    previous_service_keys: list[SecretStr] = Field(
        default_factory=list, description="Accepted beside `service_key` while it is changed, as JSON."
    )
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=1, le=65535)
    api_url: str | None = Field(default=None, description="Where the agent finds the chat API.")
    agent_host: str = "127.0.0.1"
    agent_port: int = Field(default=8001, ge=1, le=65535)
    agent_url: str | None = Field(default=None, description="Where the chat API finds the agent.")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    max_body_bytes: int = Field(default=1_000_000, ge=1024, description="Largest JSON body, in bytes.")
    shutdown_seconds: float = Field(default=8.0, gt=0, description="Time for open streams to end after SIGTERM.")

    @model_validator(mode="after")
    def _keys_are_strong(self) -> Self:
        causes = []
        for variable, key in (("COLLOQUY_SECRET_KEY", self.secret_key), ("COLLOQUY_SERVICE_KEY", self.service_key)):
            if _is_short(key):
                causes.append(f"{variable} needs {MIN_KEY_BYTES} bytes or more")
            if self._is_refused_here(key):
                causes.append(f"{variable} must be set outside development")
        for variable, keys in (
            ("COLLOQUY_PREVIOUS_SECRET_KEYS", self.previous_secret_keys),
            ("COLLOQUY_PREVIOUS_SERVICE_KEYS", self.previous_service_keys),
        ):
            if any(map(_is_short, keys)):
                causes.append(f"Each key of {variable} needs {MIN_KEY_BYTES} bytes or more")
            if any(map(self._is_refused_here, keys)):
                causes.append(f"{variable} must not have the known keys of development")
        if causes:
            raise ValueError("\n".join(causes))
        return self

    def _is_refused_here(self, key: SecretStr) -> bool:
        is_known = key.get_secret_value() in (DEVELOPMENT_SECRET_KEY, DEVELOPMENT_SERVICE_KEY)
        return is_known and self.environment not in (Environment.DEVELOPMENT, Environment.TEST)

    @property
    def secret_keys(self) -> KeyRing:
        """What persons are shown tokens by, and stored secrets are sealed with."""
        return _ring(self.secret_key, self.previous_secret_keys)

    @property
    def service_keys(self) -> KeyRing:
        """What the services show each other tokens by."""
        return _ring(self.service_key, self.previous_service_keys)

    @property
    def chat_api_base_url(self) -> str:
        return (self.api_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    @property
    def agent_base_url(self) -> str:
        return (self.agent_url or f"http://{self.agent_host}:{self.agent_port}").rstrip("/")

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings, or raise `SettingsError` with one plain line per cause."""
        data_dir = configured_data_dir()
        try:
            # Of several files the last wins, so a person's own `.env` comes after the generated one.
            return cls(_env_file=(data_dir / EMBEDDED_ENV, ".env"), **overrides)
        except ValidationError as error:
            lines = []
            for item in error.errors(include_url=False, include_input=False):
                where = ".".join(str(part) for part in item["loc"]).upper()
                message = item["msg"].removeprefix("Value error, ")
                lines.append(f"COLLOQUY_{where}: {message}" if where else message)
            raise SettingsError("\n".join(lines)) from None
        except UnreadableSetting as error:
            # A list that is not JSON: pydantic-settings names the field, and quotes no value.
            raise SettingsError(f"The settings could not be read: {error}") from None
