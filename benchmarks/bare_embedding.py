"""The embedding model alone: texts as JSON on standard input, the seconds that it takes on standard output.

`python -m benchmarks.bare_embedding < texts.json`
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from agent_service.adapters.local_embedder import LocalEmbedder


async def measure(texts: list[str]) -> float:
    """Seconds for all texts in one call, the loading of the model left out."""
    embedder = LocalEmbedder()
    try:
        await embedder.embed(texts[:1])
        started = time.perf_counter()
        await embedder.embed(texts)
        return time.perf_counter() - started
    finally:
        await embedder.aclose()


if __name__ == "__main__":
    print(asyncio.run(measure(json.load(sys.stdin))))
