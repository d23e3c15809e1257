"""The embedding models that Colloquy knows the measures of, and what others need to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.chat import Provider


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model as it is used. `max_tokens` of a text are read at most; `shortened`: its vectors are cut on request."""

    provider: Provider
    model: str
    dimensions: int
    max_tokens: int
    shortened: bool = False

    @property
    def name(self) -> str:
        return f"{self.provider.value}:{self.model}"


@dataclass(frozen=True, slots=True)
class _Known:
    """`choosable`: the fewer dimensions that the model gives when asked."""

    dimensions: int
    max_tokens: int
    choosable: tuple[int, ...] = ()


# Where tokens can only be estimated, half of what the model reads: an estimate may be wrong by that much.
_REMOTE = 4096
_MODELS: Mapping[Provider, Mapping[str, _Known]] = {
    # 256 in all, two of them the model's own.
    Provider.LOCAL: {"all-MiniLM-L6-v2": _Known(384, 254)},
    Provider.OPENAI: {
        "text-embedding-3-small": _Known(1536, _REMOTE, (384, 512, 768, 1024)),
        "text-embedding-3-large": _Known(3072, _REMOTE, (384, 512, 768, 1024, 1536)),
        "text-embedding-ada-002": _Known(1536, _REMOTE),
    },
    Provider.GOOGLE_GENAI: {"gemini-embedding-001": _Known(3072, 1024, (768, 1536))},
}
_UNKNOWN_MAX_TOKENS = 256
"""Most embedding models that people serve themselves read 512."""


def embedding_model(provider: Provider, model: str | None, dimensions: int | None) -> EmbeddingModel:
    """The model that is configured; None stands for the provider's default and the model's own dimensions.

    Raises `ValueError` with what to change.
    """
    models = _MODELS[provider]
    model = model if model is not None else next(iter(models))
    known = models.get(model)
    if known is None:
        if provider is Provider.LOCAL:
            raise ValueError(f"the local embedding model is {next(iter(models))}, not {model}")
        if dimensions is None:
            raise ValueError(f"the dimensions of {model} are not known here: set COLLOQUY_EMBEDDING_DIMENSIONS")
        return EmbeddingModel(provider, model, dimensions, _UNKNOWN_MAX_TOKENS)
    if dimensions is None or dimensions == known.dimensions:
        return EmbeddingModel(provider, model, known.dimensions, known.max_tokens)
    if dimensions not in known.choosable:
        has = ", ".join(str(number) for number in (*known.choosable, known.dimensions))
        raise ValueError(f"{model} gives {has} dimensions, not {dimensions}")
    return EmbeddingModel(provider, model, dimensions, known.max_tokens, shortened=True)
