"""A caller that goes away takes the model's connection with it, within a second; a shutdown ends every stream."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.__main__ import main
from tests.factories.turns import events_in, turn
from tests.fakes.scripted_model import ScriptedModelServer

JSON = {"Accept": "application/json"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class AgentProcess:
    """`python -m agent_service`, as it runs in earnest: one for all tests, and another when one has ended it."""

    def __init__(self, environment: dict[str, str], data_dir: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        variables = {"COLLOQUY_AGENT_PORT": str(self.port), "COLLOQUY_DATA_DIR": str(data_dir)}
        self._environment = {**os.environ, **variables, **environment}
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agent_service"]
        return subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL)

    def wait_until_up(self) -> None:
        if self.process.poll() is not None:
            self.process = self._started()
        deadline = time.monotonic() + 90
        with httpx.Client(trust_env=False, verify=False) as client:  # noqa: S501 - of what has no TLS
            while time.monotonic() < deadline:
                try:
                    if client.get(f"{self.url}/health/ready", timeout=30).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise AssertionError("the agent did not come up")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


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
def one_agent(scripted_model: ScriptedModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    agent = AgentProcess(_environment(scripted_model), tmp_path_factory.mktemp("agent"))
    yield agent
    agent.stop()


@pytest.fixture
def agent(one_agent: AgentProcess) -> AgentProcess:
    one_agent.wait_until_up()
    return one_agent


@asynccontextmanager
async def _client(url: str, token: str) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=90) as client:
        yield client


async def _until_called(model: ScriptedModelServer, key: str, *, speaking: bool = True) -> None:
    """Wait until the request of that key has come, and the answer to it has begun."""
    async with asyncio.timeout(90):  # a provider's library is imported at the first use, which takes a while
        while (found := _request_named(model, key)) is None or (speaking and found["first_piece_at"] is None):
            await asyncio.sleep(0.05)


def _request_named(model: ScriptedModelServer, key: str) -> dict[str, Any] | None:
    return next((request for request in model.stats()["requests"] if request["key"] == key), None)


async def _until_open(model: ScriptedModelServer, count: int) -> None:
    """Until the model has so many requests open."""
    async with asyncio.timeout(30):
        while model.stats()["open"] != count:
            await asyncio.sleep(0.05)


async def _quick(leave: Callable[[], Awaitable[float]]) -> None:
    """`leave` tells the seconds that it took. On a busy machine one or the other may take longer than a second."""
    took = [await leave()]
    while took[-1] >= 1.0 and len(took) < 10:
        took.append(await leave())
    assert min(took) < 1.0, took


@pytest.mark.parametrize("provider", ["openai", "google_genai"])
@pytest.mark.parametrize("script", ["tokens=9 hang_after=3", "tokens=6000 delay_ms=10", "silent=1"])
@pytest.mark.parametrize("mode", ["stream", "json"])
async def test_leaving_closes_the_models_connection(
    agent: AgentProcess, scripted_model: ScriptedModelServer, service_token: str, provider: str, script: str, mode: str
) -> None:
    body = turn(f"[[script {script} key=left]]", provider=provider)

    async def leave() -> float:
        scripted_model.forget()
        async with _client(agent.url, service_token) as client:
            waiting = asyncio.create_task(client.post("/v1/chat", json=body, headers=JSON if mode == "json" else None))
            await _until_called(scripted_model, "left", speaking="silent" not in script)
            left = time.time()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await _until_open(scripted_model, 0)
        [request] = scripted_model.stats()["requests"]
        assert request["state"] == "closed_by_client"
        return float(request["ended_at"]) - left

    await _quick(leave)


async def test_many_vanish_at_once(
    agent: AgentProcess, scripted_model: ScriptedModelServer, service_token: str
) -> None:
    body = turn("[[script tokens=9 hang_after=1 key=vanish]]")

    async def leave() -> float:
        scripted_model.forget()
        async with _client(agent.url, service_token) as client:
            waiting = [asyncio.create_task(client.post("/v1/chat", json=body)) for _ in range(50)]
            await _until_open(scripted_model, 50)
            left = time.time()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await _until_open(scripted_model, 0)
        requests = scripted_model.stats()["requests"]
        assert {request["state"] for request in requests} == {"closed_by_client"}
        return float(max(request["ended_at"] for request in requests)) - left

    await _quick(leave)


async def test_a_silent_stream_is_kept_open_by_comments(agent: AgentProcess, service_token: str) -> None:
    body = turn("[[script tokens=2 first_delay_ms=3000]]")
    async with _client(agent.url, service_token) as client:
        response = await client.post("/v1/chat", json=body)
    assert response.text.startswith(": keep-alive\n\n")
    assert events_in(response.text)[-1].type == "done"


async def test_sigterm_ends_open_streams_with_an_error(
    agent: AgentProcess, scripted_model: ScriptedModelServer, service_token: str
) -> None:
    scripted_model.forget()

    async def ask(client: httpx.AsyncClient, provider: str, mode: str) -> httpx.Response:
        body = turn(f"[[script tokens=9 hang_after=2 key={provider}-{mode}]]", provider=provider)
        return await client.post("/v1/chat", json=body, headers=JSON if mode == "json" else None)

    async with _client(agent.url, service_token) as client:
        asked = [(provider, mode) for provider in ("openai", "google_genai") for mode in ("stream", "json")]
        asking = [asyncio.create_task(ask(client, provider, mode)) for provider, mode in asked]
        for provider, mode in asked:
            await _until_called(scripted_model, f"{provider}-{mode}")
        await asyncio.sleep(0.5)  # the words are on their way
        agent.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asking)
    assert await asyncio.to_thread(agent.process.wait, 60) == 0
    for (_, mode), answer in zip(asked, answers, strict=True):
        if mode == "json":
            assert (answer.status_code, answer.json()["code"]) == (503, "agent-restarting")
            continue
        events = events_in(answer.text)
        # The two words may travel together or apart, and on a busy machine too late.
        assert {event.type for event in events[:-1]} <= {"delta"}
        assert events[-1].type == "error"
        assert events[-1].model_dump()["problem"]["code"] == "agent-restarting"


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"COLLOQUY_SERVICE_KEY": "short"}, "COLLOQUY_SERVICE_KEY"), ({"COLLOQUY_MODEL_ATTEMPTS": "none"}, "ATTEMPTS")],
)
def test_settings_that_cannot_work_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main() == 2
    said = capfd.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_a_busy_port_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("COLLOQUY_AGENT_PORT", port)
        monkeypatch.setattr(sys, "argv", ["agent_service"])
        assert main() == 1
    said = capfd.readouterr().err
    assert port in said
    assert len(said.strip().splitlines()) == 1


def test_a_start_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    variables = {
        "COLLOQUY_DATA_DIR": str(tmp_path),
        "COLLOQUY_AGENT_HOST": "192.0.2.1",
        "COLLOQUY_AGENT_PORT": str(_free_port()),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "agent_service"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 1
    assert "192.0.2.1" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
