"""The real small model, in its real process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import httpx
import psutil
import pytest
import structlog

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
        child.kill()
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.005)
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
    _, alive = psutil.wait_procs([child], timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def _words(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def test_who_leaves_while_it_starts_leaves_the_start_to_others() -> None:
    process = LocalModelProcess(None)
    leaving = asyncio.ensure_future(process.endpoint())
    await _until(lambda: process.pid is not None)
    started = process.pid
    staying = asyncio.ensure_future(process.endpoint())
    leaving.cancel()
    await asyncio.wait({leaving})

    endpoint = await staying

    assert leaving.cancelled()
    assert (process.pid, await process.endpoint()) == (started, endpoint)
    await process.aclose()


async def test_calls_a_tool_answers_from_it_and_greets_without() -> None:
    process = LocalModelProcess(None)
    chat = LocalChat(
        process, httpx.AsyncClient(timeout=90), model="small", max_tokens=12, prompt_tokens=400, read_interval=0
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


async def test_what_never_lasts_is_started_ever_more_rarely(tmp_path: Path) -> None:
    process = LocalModelProcess(tmp_path / "gone.gguf", restart_seconds=0.02)
    with structlog.testing.capture_logs() as logs:
        process.keep_running()
        await _until(lambda: len(logs) >= 4)
        await process.aclose()
    assert [entry["retry_in"] for entry in logs[:4]] == [0.02, 0.04, 0.08, 0.16]
