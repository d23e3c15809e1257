"""Models as OpenAI's clients list them, and what their names mean."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.chat import ModelChoice, Provider
from shared.openai.errors import UnknownModel

MAX_MODEL_NAME = 200
_PROVIDERS = frozenset(kind.value for kind in Provider)


class OpenAIModel(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"id": "local:smollm2-135m-instruct", "object": "model", "created": 0, "owned_by": "local"}
        }
    )

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str | None = Field(default=None, description="What people call it, where that is not its id.")


class OpenAIModelList(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "list",
                "data": [
                    {"id": "local:smollm2-135m-instruct", "object": "model", "created": 0, "owned_by": "local"},
                    {"id": "local:all-MiniLM-L6-v2", "object": "model", "created": 0, "owned_by": "local"},
                ],
            }
        }
    )

    object: Literal["list"]
    data: list[OpenAIModel]


def chosen_model(model: str) -> ModelChoice:
    """`<provider>:<name>`, or a provider alone for its default.

    A name without a provider is taken for one of OpenAI's own, because its clients' users write `gpt-4o` and nothing
    more. It never falls to whichever provider is the default: that would answer in another model's name.
    Raises `UnknownModel`.
    """
    provider, colon, name = model.partition(":")
    if provider in _PROVIDERS:
        if colon and not name:
            raise UnknownModel(f"`{model}` names a provider and no model. Leave the colon out for its default.")
        return ModelChoice(provider=Provider(provider), name=name or None)
    if colon:
        known = ", ".join(f"`{kind}`" for kind in Provider)
        raise UnknownModel(
            f"The model `{model}` does not exist. A model is `<provider>:<name>`, or a provider alone: {known}."
        )
    return ModelChoice(provider=Provider.OPENAI, name=model)
