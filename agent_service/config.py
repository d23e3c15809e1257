"""The agent's settings: see `shared.settings` for where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator

from agent_service.application.run_turn import ModelDefaults, TurnLimits
from shared.contracts.chat import Provider
from shared.settings import CommonSettings

LOCAL_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
BUNDLED_LOCAL_MODEL = "smollm2-135m-instruct"
OPENAI_URL = "https://api.openai.com/v1"

_HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$")]


class AgentSettings(CommonSettings):
    # A long conversation with a large system prompt comes in one body.
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)

    default_provider: Provider | None = Field(default=None, description="Unset: the first that has a key, or local.")
    default_model: str | None = Field(default=None, description="The default provider's model. Unset: its own default.")
    local_model_path: Path | None = Field(default=None, description="Any GGUF file, in place of the bundled weights.")

    google_api_key: SecretStr | None = Field(default=None, validation_alias="GOOGLE_API_KEY")
    google_gemini_base_url: _HttpUrl | None = Field(default=None, validation_alias="GOOGLE_GEMINI_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: _HttpUrl = Field(default=OPENAI_URL, validation_alias="OPENAI_BASE_URL")

    model_connect_seconds: float = Field(default=5.0, gt=0)
    model_first_token_seconds: float = Field(default=60.0, gt=0)
    model_between_tokens_seconds: float = Field(default=30.0, gt=0)
    model_turn_seconds: float = Field(default=300.0, gt=0)
    model_attempts: int = Field(default=3, ge=1, le=10, description="Calls to the model per turn, the first included.")
    model_retry_base_seconds: float = Field(default=0.25, gt=0)
    model_retry_max_seconds: float = Field(default=3.0, gt=0)
    delta_interval_ms: float = Field(default=40.0, ge=0, le=1000, description="Least time between two deltas.")
    local_max_tokens: int = Field(default=256, ge=1, description="Used where a request sets no `max_tokens`.")
    local_prompt_tokens: int = Field(default=400, ge=50, description="History beyond this is left out, oldest first.")
    stream_heartbeat_seconds: float = Field(default=15.0, gt=0)
    introspection_seconds: float = Field(default=3.0, gt=0, description="How long the chat API may take over a key.")

    @field_validator(
        "default_provider", "default_model", "local_model_path", "google_api_key", "google_gemini_base_url",
        "openai_api_key", "openai_base_url", mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_unset(cls, value: object, info: object) -> object:
        # `OPENAI_API_KEY=` in a .env file means that there is none.
        return None if value == "" else value

    @property
    def has_openai(self) -> bool:
        """A compatible server of one's own often wants no key."""
        return self.openai_api_key is not None or self.openai_base_url != OPENAI_URL

    @property
    def provider(self) -> Provider:
        if self.default_provider is not None:
            return self.default_provider
        if self.google_api_key is not None:
            return Provider.GOOGLE_GENAI
        return Provider.OPENAI if self.openai_api_key is not None else Provider.LOCAL

    @property
    def local_model_name(self) -> str:
        return self.local_model_path.stem if self.local_model_path is not None else BUNDLED_LOCAL_MODEL

    @property
    def model_defaults(self) -> ModelDefaults:
        models = {
            Provider.GOOGLE_GENAI: "gemini-2.0-flash",
            Provider.OPENAI: "gpt-4o-mini",
            Provider.LOCAL: self.local_model_name,
        }
        if self.default_model is not None and self.provider is not Provider.LOCAL:
            models[self.provider] = self.default_model
        return ModelDefaults(provider=self.provider, models=models)

    @property
    def turn_limits(self) -> TurnLimits:
        return TurnLimits(
            first_token=self.model_first_token_seconds,
            between_tokens=self.model_between_tokens_seconds,
            turn=self.model_turn_seconds,
            attempts=self.model_attempts,
            retry_base=self.model_retry_base_seconds,
            retry_max=self.model_retry_max_seconds,
            delta_interval=self.delta_interval_ms / 1000,
        )
