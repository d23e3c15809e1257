"""The agent's settings: see `shared.settings` for where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, field_validator, model_validator

from agent_service.application.run_tools import ToolLimits
from agent_service.application.run_turn import ModelDefaults, TurnLimits
from agent_service.domain.embedding_model import EmbeddingModel, embedding_model
from shared.contracts.chat import Provider
from shared.settings import CommonSettings

LOCAL_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
BUNDLED_LOCAL_MODEL = "smollm2-135m-instruct"
OPENAI_URL = "https://api.openai.com/v1"

_HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$")]


def _as_number(value: object) -> object:
    """The environment knows text alone, and a `Literal` takes no text for a number."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


# Those that the index has been prepared for: see the migrations.
_Dimensions = Annotated[Literal[384, 512, 768, 1024, 1536, 3072], BeforeValidator(_as_number)]


class AgentSettings(CommonSettings):
    # A long conversation, or the text of a large document, comes in one body.
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)

    agent_database_url: SecretStr | None = Field(
        default=None, description="As the agent role: it can only do CRUD on `agent`."
    )
    agent_db_pool_size: int = Field(default=8, ge=2)

    embedding_provider: Provider = Field(default=Provider.LOCAL, description="Changing it needs `regenerate`.")
    embedding_model: str | None = Field(default=None, description="Unset: the provider's own default.")
    embedding_dimensions: _Dimensions | None = Field(default=None, description="Unset: the model's own.")
    text_search_config: str = Field(
        default="english", pattern=r"^[a-z_]{1,63}$", description="PostgreSQL's, for collections made from now on."
    )
    rerank_url: _HttpUrl | None = Field(default=None, description="Of a server that speaks `POST /rerank`; optional.")
    rerank_model: str | None = None
    rerank_api_key: SecretStr | None = None
    rerank_seconds: float = Field(default=2.0, gt=0, description="After which a search goes on without it.")
    chunk_max_tokens: int = Field(default=256, ge=32, le=2048, description="Of the embedding model's tokens.")

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
    retrieval_seconds: float = Field(default=10.0, gt=0, description="How long a turn waits for its passages.")
    passage_characters: int = Field(
        default=24_000, ge=1_000, description="Most text of passages shown to a model that is not the local one."
    )
    delta_interval_ms: float = Field(default=40.0, ge=0, le=1000, description="Least time between two deltas.")
    local_max_tokens: int = Field(default=256, ge=1, description="Used where a request sets no `max_tokens`.")
    local_prompt_tokens: int = Field(default=400, ge=50, description="History beyond this is left out, oldest first.")
    mcp_config: Path | None = Field(default=None, description="A `servers_config.json`; unset: no MCP servers.")
    tool_seconds: float = Field(default=30.0, gt=0, description="Longest that one call of a tool may take.")
    tool_attempts: int = Field(default=3, ge=1, le=10, description="Calls of a tool that is safe to repeat.")
    tool_rounds: int = Field(default=8, ge=1, le=50, description="Times that a model may call tools in one run.")
    run_tokens: int = Field(
        default=200_000, ge=1_000, description="Tokens of one run, after which the model answers without tools."
    )
    fetch_seconds: float = Field(default=15.0, gt=0, description="Longest that `fetch_url` may take in all.")
    fetch_bytes: int = Field(default=2_097_152, ge=1024, description="Most that `fetch_url` reads, unpacked.")
    message_search_seconds: float = Field(default=5.0, gt=0, description="How long the chat API may look.")
    stream_heartbeat_seconds: float = Field(default=15.0, gt=0)
    introspection_seconds: float = Field(default=3.0, gt=0, description="How long the chat API may take over a key.")

    @field_validator(
        "default_provider", "default_model", "local_model_path", "google_api_key", "google_gemini_base_url",
        "openai_api_key", "openai_base_url", "embedding_model", "rerank_url", "rerank_model", "rerank_api_key",
        "mcp_config",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_unset(cls, value: object, info: object) -> object:
        # `OPENAI_API_KEY=` in a .env file means that there is none.
        return None if value == "" else value

    @model_validator(mode="after")
    def _embedding_can_work(self) -> Self:
        match self.configured_embedding_model.provider:
            case Provider.GOOGLE_GENAI if self.google_api_key is None:
                raise ValueError("COLLOQUY_EMBEDDING_PROVIDER=google_genai needs GOOGLE_API_KEY")
            case Provider.OPENAI if not self.has_openai:
                raise ValueError("COLLOQUY_EMBEDDING_PROVIDER=openai needs OPENAI_API_KEY or OPENAI_BASE_URL")
        return self

    @property
    def configured_embedding_model(self) -> EmbeddingModel:
        return embedding_model(self.embedding_provider, self.embedding_model, self.embedding_dimensions)

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
            retrieval=self.retrieval_seconds,
            attempts=self.model_attempts,
            retry_base=self.model_retry_base_seconds,
            retry_max=self.model_retry_max_seconds,
            delta_interval=self.delta_interval_ms / 1000,
            tool_rounds=self.tool_rounds,
            run_tokens=self.run_tokens,
            passage_characters=self.passage_characters,
            local_tokens=self.local_prompt_tokens,
        )

    @property
    def tool_limits(self) -> ToolLimits:
        return ToolLimits(seconds=self.tool_seconds, attempts=self.tool_attempts)
