"""What OpenAI's errors look like, for whoever reads them: without the web framework of those who answer with them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What OpenAI's clients turn into their exceptions."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "message": "The model `gpt-9` does not exist.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model-not-found",
                }
            }
        }
    )

    error: OpenAIErrorDetail
