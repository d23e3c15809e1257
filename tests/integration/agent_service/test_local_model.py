"""The real small model, in its real process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import httpx
import psutil
import pytest

from agent_service.adapters.local_chat import LocalChat
from agent_service.adapters.local_process import LocalModelProcess
from agent_service.domain.problems import ModelUnavailable
from agent_service.domain.turn import (
    CallWanted,
    Finished,
    Line,
    ModelCall,
    ModelEvent,
    OfferedTool,
    TextPiece,
    UsageReport,
)
from shared.contracts.chat import ChatAnswer, ChatRole, DeltaEvent, FinishReason, Provider
from shared.contracts.tools import ToolCall
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


def _words(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


async def test_calls_a_tool_answers_from_it_and_greets_without() -> None:
    process = LocalModelProcess(None)
    chat = LocalChat(
        process, httpx.AsyncClient(timeout=60), model="small", max_tokens=40, prompt_tokens=400, read_interval=0
    )
    parameters = {"properties": {"expression": {"type": "string", "maxLength": 500}}, "required": ["expression"]}
    calculator = OfferedTool("calculator", "Works out an arithmetic expression.", parameters)
    clock = OfferedTool("current_time", "Tells the current date, weekday and time.", {})

    async def answer(*lines: Line) -> list[ModelEvent]:
        call = ModelCall(Provider.LOCAL, "small", lines, temperature=0, tools=(calculator, clock))
        async with aclosing(chat.stream(call)) as events:
            return [event async for event in events]

    question = Line(ChatRole.USER, "What is 17 * 23?")
    usage, wanted, finished = await answer(question)
    assert isinstance(usage, UsageReport)
    assert wanted == CallWanted("", "calculator", '{"expression":"17 * 23"}')
    assert finished == Finished(FinishReason.TOOL_CALLS)

    made = ToolCall(id="1", name="calculator", arguments={"expression": "17 * 23"})
    asked = Line(ChatRole.ASSISTANT, "", tool_calls=(made,))
    said = await answer(question, asked, Line(ChatRole.TOOL, "17 * 23 = 391", tool_call_id="1"))
    assert "391" in _words(said)
    assert not any(isinstance(event, CallWanted) for event in said)

    greeted = await answer(Line(ChatRole.USER, "Hello!"))
    assert _words(greeted)
    assert not any(isinstance(event, CallWanted) for event in greeted)
    await chat.aclose()


async def test_a_damaged_file_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF nonsense")
    process = LocalModelProcess(damaged)
    with pytest.raises(ModelUnavailable):
        await process.endpoint()
    await process.aclose()
