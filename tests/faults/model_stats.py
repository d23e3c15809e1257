"""What the scripted model saw: which calls are open, and when a connection was closed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.faults.cluster import Cluster
from tests.faults.person import client


async def calls(cluster: Cluster, key: str) -> list[dict[str, Any]]:
    """The calls of one script, by its `key`, the oldest first."""
    async with client() as http:
        stats = (await http.get(f"{cluster.url('model')}/_stats")).json()
    return [call for call in stats["requests"] if call["key"] == key]


async def begun(cluster: Cluster, key: str, *, pieces: int = 0, within: float = 30) -> dict[str, Any]:
    """The first call of a script, once it has sent so many pieces."""
    give_up_at = time.monotonic() + within
    while True:
        found = await calls(cluster, key)
        if found and found[0]["pieces_sent"] >= pieces:
            return found[0]
        assert time.monotonic() < give_up_at, f"the model was not called, or is slow: {found}"
        await asyncio.sleep(0.02)


async def called(cluster: Cluster, key: str, times: int, within: float) -> None:
    """Wait until a script was asked for so often."""
    give_up_at = time.monotonic() + within
    while len(found := await calls(cluster, key)) < times:
        assert time.monotonic() < give_up_at, f"the model was called {len(found)} times only"
        await asyncio.sleep(0.05)


async def closed(cluster: Cluster, key: str, within: float) -> dict[str, Any]:
    """The first call of a script, once its connection is closed."""
    give_up_at = time.monotonic() + within
    while (call := (await calls(cluster, key))[0])["ended_at"] is None:
        assert time.monotonic() < give_up_at, f"the model's connection is still open after {within} s"
        await asyncio.sleep(0.02)
    return call
