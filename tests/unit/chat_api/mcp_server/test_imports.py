"""The package of the protocol is large, and a process that is never asked for it does not load it."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import asyncio, sys
import chat_api.main
from chat_api.mcp_server.endpoint import McpEndpoint

def loaded():
    return [name for name in sys.modules if name.partition(".")[0] == "mcp"]

async def first():
    endpoint = McpEndpoint()
    turns, answers = 0, [asyncio.create_task(endpoint.protocol()) for _ in range(20)]
    while not all(answer.done() for answer in answers):
        turns += 1
        await asyncio.sleep(0.005)
    assert len({await answer for answer in answers}) == 1
    return turns

assert not loaded(), loaded()
turns = asyncio.run(first())
assert loaded()
assert turns > 3, f"the loop turned {turns} times while the package was imported"
"""


def test_it_is_imported_by_the_first_request_and_beside_the_loop() -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
