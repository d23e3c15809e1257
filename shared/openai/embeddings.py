"""`POST /v1/embeddings`: what is asked and answered, at both services' doors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.openai.models import MAX_MODEL_NAME
from shared.schema import WriteSchema

_MAX_TEXTS = 2048  # OpenAI's limit

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]


class EncodingFormat(StrEnum):
    """`base64` is what OpenAI's client asks for unless told otherwise: little-endian 32-bit floats."""

    FLOAT = "float"
    BASE64 = "base64"


class EmbeddingRequest(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"model": "local", "input": ["A conversation.", "An exchange of words."]}},
    )

    model: str = Field(
        min_length=1,
        max_length=MAX_MODEL_NAME,
        description="The configured one, as `<provider>:<model>`, or either part. `GET /v1/models` names it.",
    )
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=_MAX_TEXTS)] = Field(
        description="Texts. What goes beyond the model's tokens of a text is not read. Arrays of tokens are refused."
    )
    encoding_format: EncodingFormat | None = Field(default=None, description="`float`, unless it says otherwise.")
    dimensions: int | None = Field(default=None, ge=1, description="The configured number of them, or nothing.")
    user: str | None = Field(default=None, max_length=512, description="Ignored: the credential says who calls.")


class EmbeddingItem(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.0213, -0.0471]}],
                "model": "local:all-MiniLM-L6-v2",
                "usage": {"prompt_tokens": 6, "total_tokens": 6},
            }
        }
    )

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
