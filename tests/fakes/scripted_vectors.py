"""What the scripted model answers to texts that are to be embedded, or put in order."""

from __future__ import annotations

import base64
import random
import struct
from typing import Any, Protocol

_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "gemini-embedding-001": 3072}
_LENGTH = 3.0


class VectorScript(Protocol):
    """The options of a directive that shape these answers."""

    @property
    def dimensions(self) -> int | None: ...

    @property
    def lists(self) -> bool: ...

    @property
    def missing(self) -> int: ...

    @property
    def zero(self) -> bool: ...

    @property
    def logits(self) -> bool: ...


def vector(model: str, purpose: str, text: str, dimensions: int) -> list[float]:
    """Always the same for the same text, and three units long: whoever wants unit vectors has to make them."""
    source = random.Random(f"{model}/{purpose}/{text}")
    values = [source.gauss() for _ in range(dimensions)]
    norm = sum(value * value for value in values) ** 0.5
    return [value / norm * _LENGTH for value in values]


def openai_embeddings(script: VectorScript, body: dict[str, Any]) -> dict[str, Any]:
    model, texts = str(body["model"]), [body["input"]] if isinstance(body["input"], str) else body["input"]
    dimensions = script.dimensions or body.get("dimensions") or _DIMENSIONS.get(model, 8)
    items = []
    for index, text in enumerate(texts[script.missing :]):
        values = [0.0] * dimensions if script.zero else vector(model, "", text, dimensions)
        as_base64 = body.get("encoding_format") == "base64" and not script.lists
        embedding = base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode() if as_base64 else values
        items.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = sum(len(text.split()) for text in texts)
    # Not in the order of the texts: their indexes say which is which.
    return {
        "object": "list",
        "data": items[::-1],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def gemini_embeddings(script: VectorScript, body: dict[str, Any]) -> dict[str, Any]:
    embeddings = []
    for request in body["requests"][script.missing :]:
        model = str(request["model"]).removeprefix("models/")
        text = " ".join(part["text"] for part in request["content"]["parts"])
        dimensions = script.dimensions or request.get("outputDimensionality") or _DIMENSIONS.get(model, 8)
        values = [0.0] * dimensions if script.zero else vector(model, request.get("taskType", ""), text, dimensions)
        embeddings.append({"values": values})
    return {"embeddings": embeddings}


def ranking(script: VectorScript, body: dict[str, Any], query: str) -> dict[str, Any]:
    """The share of the query's words that a document has; or with `logits`, that share as a bare model's output."""
    words = set(query.lower().split())
    scores = [len(words & set(text.lower().split())) / max(1, len(words)) for text in body["documents"]]
    results = [
        {"index": index, "relevance_score": score * 12 - 6 if script.logits else score}
        for index, score in enumerate(scores)
    ][script.missing :]
    results.sort(key=lambda result: -result["relevance_score"])
    return {"results": results[: body.get("top_n", len(results))]}
