"""Which embedding model the settings mean."""

from __future__ import annotations

import pytest

from agent_service.domain.embedding_model import embedding_model
from shared.contracts.chat import Provider


@pytest.mark.parametrize(
    ("provider", "model", "dimensions", "name", "gives", "shortened"),
    [
        (Provider.LOCAL, None, None, "local:all-MiniLM-L6-v2", 384, False),
        (Provider.LOCAL, "all-MiniLM-L6-v2", 384, "local:all-MiniLM-L6-v2", 384, False),
        (Provider.OPENAI, None, None, "openai:text-embedding-3-small", 1536, False),
        (Provider.OPENAI, None, 512, "openai:text-embedding-3-small", 512, True),
        (Provider.OPENAI, "text-embedding-3-large", 1536, "openai:text-embedding-3-large", 1536, True),
        (Provider.OPENAI, "nomic-embed-text", 768, "openai:nomic-embed-text", 768, False),
        (Provider.GOOGLE_GENAI, None, None, "google_genai:gemini-embedding-001", 3072, False),
        (Provider.GOOGLE_GENAI, None, 768, "google_genai:gemini-embedding-001", 768, True),
    ],
)
def test_the_model_and_its_measures(
    provider: Provider, model: str | None, dimensions: int | None, name: str, gives: int, shortened: bool
) -> None:
    chosen = embedding_model(provider, model, dimensions)
    assert (chosen.name, chosen.dimensions, chosen.shortened) == (name, gives, shortened)
    assert chosen.max_tokens > 0


@pytest.mark.parametrize(
    ("provider", "model", "dimensions", "says"),
    [
        (Provider.LOCAL, "another", None, "all-MiniLM-L6-v2, not another"),
        (Provider.LOCAL, None, 768, "gives 384 dimensions, not 768"),
        (Provider.OPENAI, "text-embedding-ada-002", 512, "gives 1536 dimensions, not 512"),
        (Provider.OPENAI, "nomic-embed-text", None, "set COLLOQUY_EMBEDDING_DIMENSIONS"),
        (Provider.GOOGLE_GENAI, None, 384, "gives 768, 1536, 3072 dimensions, not 384"),
    ],
)
def test_what_no_model_gives_is_refused(
    provider: Provider, model: str | None, dimensions: int | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        embedding_model(provider, model, dimensions)
