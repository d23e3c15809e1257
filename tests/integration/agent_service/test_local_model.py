"""The real small model, in its real process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from agent_service.adapters.local_process import LocalModelProcess
from agent_service.domain.problems import ModelUnavailable
from shared.contracts.chat import ChatAnswer, DeltaEvent, Provider
from tests.factories.turns import events_in, text_of, turn
from tests.integration.agent_service.conftest import OpenAgent

JSON = {"Accept": "application/json"}
pytestmark = pytest.mark.slow


def _children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if any("local_server" in word for word in child.cmdline())
    ]


async def test_generates_text_and_comes_back_after_a_crash(open_agent: OpenAgent) -> None:
    async with open_agent(default_provider="local") as agent:
        for _ in range(600):
            ready = await agent.get("/health/ready")
            if ready.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert ready.status_code == 200
        response = await agent.post("/v1/chat", json=turn("Say hello.", max_tokens=8), timeout=60)
        events = events_in(response.text)
        assert text_of(events).strip()
        assert [event.type for event in events][-2:] == ["usage", "done"]
        assert sum(isinstance(event, DeltaEvent) for event in events) >= 2

        child = _children()[0]
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        again = await agent.post("/v1/chat", json=turn("Say hello.", max_tokens=4), headers=JSON, timeout=60)
        assert again.status_code == 200, again.text
        answer = ChatAnswer.model_validate_json(again.content)
        assert (answer.provider, answer.finish_reason) == (Provider.LOCAL, "length")

        long = turn("word " * 6_000, max_tokens=4)
        refused = await agent.post("/v1/chat", json=long, headers=JSON, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (422, "context-too-long")
        unknown = await agent.post("/v1/chat", json=turn("hi", name="gpt-9"), headers=JSON)
        assert (unknown.status_code, unknown.json()["code"]) == (422, "model-not-found")
    assert _children() == []


_PARENT = """
import asyncio, sys
from agent_service.adapters.local_process import LocalModelProcess

async def main():
    process = LocalModelProcess(None)
    await process.endpoint()
    sys.stderr.write(f"{process.pid}\\n")
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_dies_with_the_agent_even_by_sigkill() -> None:
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        child = psutil.Process(int(parent.stderr.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


async def test_a_damaged_file_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF nonsense")
    process = LocalModelProcess(damaged)
    with pytest.raises(ModelUnavailable):
        await process.endpoint()
    await process.aclose()
