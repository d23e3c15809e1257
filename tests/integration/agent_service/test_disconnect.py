"""A caller that goes away takes the model's connection with it, within a second; a shutdown ends every stream."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories.turns import events_in, turn
from tests.fakes.scripted_model import ScriptedModelServer

JSON = {"Accept": "application/json"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class AgentProcess:
    """`python -m agent_service`, as it runs in earnest."""

    def __init__(self, environment: dict[str, str], data_dir: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        variables = {"COLLOQUY_AGENT_PORT": str(self.port), "COLLOQUY_DATA_DIR": str(data_dir)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent_service"],
            env={**os.environ, **variables, **environment},
            stdout=subprocess.DEVNULL,
        )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            time.sleep(0.05)
        raise AssertionError("the agent did not come up")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=15)


def _environment(model: ScriptedModelServer) -> dict[str, str]:
    return {
        "COLLOQUY_DEFAULT_PROVIDER": "openai",
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": model.openai_url,
        "GOOGLE_API_KEY": "k",
        "GOOGLE_GEMINI_BASE_URL": model.gemini_url,
        "COLLOQUY_STREAM_HEARTBEAT_SECONDS": "0.3",
    }


@pytest.fixture(scope="module")
def agent_process(scripted_model: ScriptedModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    agent = AgentProcess(_environment(scripted_model), tmp_path_factory.mktemp("agent"))
    agent.wait_until_up()
    yield agent.url
    agent.stop()


@asynccontextmanager
async def _client(url: str, token: str) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        yield client


async def _request_named(model: ScriptedModelServer, key: str) -> dict[str, Any]:
    for _ in range(100):
        for request in model.stats()["requests"]:
            if request["key"] == key:
                found: dict[str, Any] = request
                return found
        await asyncio.sleep(0.05)
    raise AssertionError("the model was never called")


async def _closed_at(model: ScriptedModelServer, key: str) -> float:
    for _ in range(60):
        request = await _request_named(model, key)
        if request["state"] == "closed_by_client":
            ended: float = request["ended_at"]
            return ended
        await asyncio.sleep(0.05)
    raise AssertionError(f"the model's connection is still open: {request['state']}")


async def _until_open(model: ScriptedModelServer, count: int) -> None:
    """Until the model has so many requests open."""
    for _ in range(200):
        if model.stats()["open"] == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{model.stats()['open']} requests are open, not {count}")


@pytest.mark.parametrize("provider", ["openai", "google_genai"])
@pytest.mark.parametrize("script", ["tokens=9 hang_after=3", "tokens=5000 delay_ms=2", "silent=1"])
@pytest.mark.parametrize("mode", ["stream", "json"])
async def test_leaving_closes_the_models_connection(
    agent_process: str, scripted_model: ScriptedModelServer, service_token: str, provider: str, script: str, mode: str
) -> None:
    key = f"{provider}-{mode}-{script.replace(' ', '-')}"
    body = turn(f"[[script {script} key={key}]]", provider=provider)
    async with _client(agent_process, service_token) as client:
        waiting = asyncio.create_task(client.post("/v1/chat", json=body, headers=JSON if mode == "json" else None))
        await _request_named(scripted_model, key)
        await asyncio.sleep(0.1)
        left = time.time()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await _closed_at(scripted_model, key) - left < 1.0


async def test_many_vanish_at_once(agent_process: str, scripted_model: ScriptedModelServer, service_token: str) -> None:
    scripted_model.forget()
    async with _client(agent_process, service_token) as client:
        body = turn("[[script tokens=9 hang_after=1 key=vanish]]")
        waiting = [asyncio.create_task(client.post("/v1/chat", json=body)) for _ in range(50)]
        await _until_open(scripted_model, 50)
        left = time.time()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await _until_open(scripted_model, 0)
    ended = [request["ended_at"] for request in scripted_model.stats()["requests"]]
    assert max(ended) - left < 2


async def test_a_silent_stream_is_kept_open_by_comments(agent_process: str, service_token: str) -> None:
    body = turn("[[script tokens=2 first_delay_ms=800]]")
    async with _client(agent_process, service_token) as client:
        response = await client.post("/v1/chat", json=body)
    assert response.text.startswith(": keep-alive\n\n")
    assert events_in(response.text)[-1].type == "done"


@pytest.mark.parametrize("provider", ["openai", "google_genai"])
async def test_sigterm_ends_open_streams_with_an_error(
    scripted_model: ScriptedModelServer, service_token: str, tmp_path: Path, provider: str
) -> None:
    agent = AgentProcess(_environment(scripted_model), tmp_path)
    try:
        agent.wait_until_up()
        key = f"sigterm-{provider}"
        body = turn(f"[[script tokens=9 hang_after=2 key={key}]]", provider=provider)
        async with _client(agent.url, service_token) as client:
            streaming = asyncio.create_task(client.post("/v1/chat", json=body))
            answering = asyncio.create_task(client.post("/v1/chat", json=body, headers=JSON))
            await _request_named(scripted_model, key)
            await asyncio.sleep(0.5)
            told = time.monotonic()
            agent.process.send_signal(signal.SIGTERM)
            events = events_in((await streaming).text)
            answer = await answering
        # The two words may travel together or apart.
        assert {event.type for event in events[:-1]} == {"delta"}
        assert events[-1].type == "error"
        assert events[-1].model_dump()["problem"]["code"] == "agent-restarting"
        assert (answer.status_code, answer.json()["code"]) == (503, "agent-restarting")
        assert agent.process.wait(timeout=10) == 0
        assert time.monotonic() - told < 5
    finally:
        agent.process.kill()
        agent.process.wait()


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"COLLOQUY_SERVICE_KEY": "short"}, 2, "COLLOQUY_SERVICE_KEY"),
        ({"COLLOQUY_MODEL_ATTEMPTS": "none"}, 2, "MODEL_ATTEMPTS"),
        ({"COLLOQUY_AGENT_HOST": "192.0.2.1"}, 1, "192.0.2.1"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(tmp_path: Path, variables: dict[str, str], code: int, words: str) -> None:
    environment = {**os.environ, "COLLOQUY_DATA_DIR": str(tmp_path), "COLLOQUY_AGENT_PORT": str(_free_port())}
    ended = subprocess.run(
        [sys.executable, "-m", "agent_service"],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == code
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "COLLOQUY_DATA_DIR": str(tmp_path), "COLLOQUY_AGENT_PORT": port}
        ended = subprocess.run(
            [sys.executable, "-m", "agent_service"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert port in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
