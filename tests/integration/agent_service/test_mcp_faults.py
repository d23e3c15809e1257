"""MCP servers that are not well: they die, hang, flood, or never were. The agent goes on, and they come back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import structlog

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.ports.tools import ToolFailed
from shared.contracts.tools import ToolSourceState
from tests.fakes.mcp_process import McpHttpProcess, Server, over_stdio, ready, said

MIB = 1024 * 1024
TIMES = McpTimes(call=20.0, session=5.0, ping=0.5, ping_every=30.0, retry_base=0.05, retry_max=0.5)


@asynccontextmanager
async def source_of(server: Server, times: McpTimes = TIMES) -> AsyncGenerator[McpSource]:
    source = McpSource("fake", server, times)
    await source.start()
    try:
        yield source
    finally:
        await source.aclose()


async def failure(source: McpSource, tool: str, /, **arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as failed:
        await said(source, tool, **arguments)
    return failed.value


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def lives(process: psutil.Process) -> bool:
    """Who has ended and is not collected yet does not: that is init's to do, not ours."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def server_processes() -> list[psutil.Process]:
    """Keepers and servers of this process, oldest first."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if any("mcp_server.py" in part for part in each.cmdline())]


async def test_a_server_that_dies_is_started_again() -> None:
    async with source_of(over_stdio()) as source:
        await ready(source)
        waiting = asyncio.ensure_future(failure(source, "hang"))
        await asyncio.sleep(0.05)

        told = await failure(source, "exit_now", code=7)

        assert told.message.endswith("Its process ended with code 7.")
        assert (told.outcome_unknown, told.retryable) == (True, True)
        assert (await waiting).outcome_unknown  # the others are told as well
        # A call waits for the next session, and its tools are there meanwhile.
        assert await said(source, "echo", text="back") == "back"
        assert (source.state().restarts, source.state().error) == (1, None)


async def test_a_killed_server_is_started_again_without_a_call() -> None:
    async with source_of(over_stdio()) as source:
        await ready(source)
        _, server = server_processes()
        server.kill()
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


async def test_a_server_that_cannot_be_started_is_down_and_says_why() -> None:
    async with source_of(StdioServer(command="no-such-command-anywhere")) as source:
        await until(lambda: source.state().state is ToolSourceState.DOWN)
        state = source.state()
        assert (state.tools, state.error) == (0, "Its command is not found.")
        assert list(source.tools()) == []
        await until(lambda: source.state().restarts >= 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["-c", "raise SystemExit(3)"], "Its process ended with code 3."), (["-c", "input()"], "Its process ended"),
     (["-c", "print('hello'); import time; time.sleep(60)"], "It did not answer in time.")],
    ids=["exits", "is something else", "says nothing"],
)  # fmt: skip
async def test_a_process_that_is_no_server_is_down_and_says_why(arguments: list[str], told: str) -> None:
    times = McpTimes(open=0.5, retry_base=30.0)
    async with source_of(StdioServer(command=sys.executable, args=arguments), times) as source:
        await until(lambda: source.state().state is ToolSourceState.DOWN)
        assert str(source.state().error).startswith(told)


async def test_pauses_between_starts_grow() -> None:
    with structlog.testing.capture_logs() as logs:
        times = McpTimes(retry_base=0.05, retry_max=0.3)
        source = McpSource("fake", StdioServer(command="no-such-command"), times, jitter=lambda: 1.0)
        await source.start()
        await until(lambda: source.state().restarts >= 5)
        await source.aclose()
    pauses = [entry["retry_in"] for entry in logs if entry["event"] == "mcp.down"]
    assert pauses[:5] == [0.05, 0.1, 0.2, 0.3, 0.3]


async def test_a_start_waits_for_nobody() -> None:
    started = time.perf_counter()
    async with source_of(over_stdio("--start-seconds", "60")) as source:
        assert time.perf_counter() - started < 0.05
        assert source.state().state is ToolSourceState.STARTING
        assert list(source.tools()) == []
        await asyncio.sleep(0.3)
        closing = time.perf_counter()
    assert time.perf_counter() - closing < 3.5


async def test_a_process_that_hangs_as_a_whole_is_started_again() -> None:
    async with source_of(over_stdio()) as source:
        await ready(source)
        call = asyncio.ensure_future(said(source, "wedge"))
        await asyncio.sleep(0.1)
        call.cancel()  # as its time is up
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


async def test_a_process_that_hangs_while_nobody_calls_is_noticed() -> None:
    async with source_of(over_stdio(), McpTimes(ping_every=0.1, ping=0.3, retry_base=0.05)) as source:
        await ready(source)
        _, server = server_processes()
        server.suspend()
        await ready(source, restarts=1)


@pytest.mark.parametrize("kind", ["line", "lines", "messages", "result"])
async def test_a_flood_fails_the_call_and_stays_out_of_memory(kind: str) -> None:
    async with source_of(over_stdio()) as source:
        await ready(source)
        await said(source, "echo", text="x" * MIB)
        with PeakMemory() as memory:
            told = await failure(source, "flood", mib=100, kind=kind)
        assert told.outcome_unknown
        assert "It sent" in told.message
        assert memory.grown < 32 * MIB
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


@pytest.mark.parametrize("size", [1, 3])
async def test_large_answers_that_are_no_flood_arrive(size: int) -> None:
    async with source_of(over_stdio()) as source:
        await ready(source)
        assert len(await said(source, "flood", mib=size, kind="result")) == size * MIB


async def test_a_flood_over_http_fails_the_call_and_stays_out_of_memory() -> None:
    with McpHttpProcess() as process:
        async with source_of(HttpServer(url=process.url)) as source:
            await ready(source)
            await said(source, "echo", text="x" * MIB)
            with PeakMemory() as memory:
                told = await failure(source, "flood", mib=100, kind="result")
            assert told.outcome_unknown
            assert memory.grown < 32 * MIB
            await ready(source, restarts=1)
            assert await said(source, "echo", text="back") == "back"


async def test_an_http_server_that_dies_is_found_again() -> None:
    with McpHttpProcess() as process:
        async with source_of(HttpServer(url=process.url)) as source:
            await ready(source)
            port = process.port

            told = await failure(source, "exit_now")

            assert (told.outcome_unknown, told.retryable) == (True, True)
            await until(lambda: source.state().state is ToolSourceState.DOWN)
            assert source.state().error in ("It does not answer.", "The server cannot be reached.")
            with McpHttpProcess(port=port):
                await ready(source, restarts=1)
                assert await said(source, "echo", text="back") == "back"


async def test_a_session_that_an_http_server_forgot_is_opened_anew() -> None:
    with McpHttpProcess() as process:
        async with source_of(HttpServer(url=process.url)) as source:
            await ready(source)
            process.kill()
            with McpHttpProcess(port=process.port):
                assert await said(source, "echo", text="x") == "x"
                assert source.state().restarts == 1


async def test_an_http_server_that_refuses_us_is_down_and_no_log_shows_why_in_full() -> None:
    with McpHttpProcess("--token", "right") as process, structlog.testing.capture_logs() as logs:
        server = HttpServer.model_validate({"url": process.url, "headers": {"Authorization": "Bearer wrong-secret"}})
        async with source_of(server) as source:
            await until(lambda: source.state().state is ToolSourceState.DOWN)
            assert source.state().error == "The server refused the call (HTTP 401)."
            assert "wrong-secret" not in json.dumps(logs) + source.state().model_dump_json()


async def test_an_http_server_that_is_not_there_is_down() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with source_of(HttpServer(url=f"http://127.0.0.1:{taken.getsockname()[1]}/mcp")) as source:
            await until(lambda: source.state().state is ToolSourceState.DOWN)
            assert source.state().error == "The server cannot be reached."


async def test_no_log_holds_what_is_said() -> None:
    with structlog.testing.capture_logs() as logs:
        async with source_of(over_stdio(env={"KEY": "the-secret"})) as source:
            await ready(source)
            await said(source, "echo", text="the-words")
            await said(source, "garbage")
            await failure(source, "raise_error", message="the-words")
            await failure(source, "exit_now")
            await ready(source, restarts=1)
    assert logs
    assert "the-secret" not in json.dumps(logs)
    assert "the-words" not in json.dumps(logs)


@pytest.mark.parametrize("stubborn", [(), ("--ignore-eof",), ("--ignore-eof", "--ignore-sigterm")], ids=str)
async def test_nothing_is_left_running(stubborn: tuple[str, ...]) -> None:
    async with source_of(over_stdio(*stubborn)) as source:
        await ready(source)
        processes = server_processes()
        assert len(processes) == 2  # the keeper, and the server
        started = time.perf_counter()
    assert time.perf_counter() - started < 3.5
    # What was killed a moment ago may take another to be gone.
    await until(lambda: not [process for process in processes if lives(process)], seconds=1.0)
    assert server_processes() == []


_HOLDER = """
import asyncio, json, sys
from agent_service.adapters.mcp_config import StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes

async def main():
    source = McpSource("fake", StdioServer.model_validate_json(sys.argv[1]), McpTimes())
    await source.start()
    while source.state().state != "ready":
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("wrapped", [False, True], ids=["a server", "a server that a shell started"])
def test_an_agent_that_is_killed_leaves_nothing_running(wrapped: bool, tmp_path: Path) -> None:
    server = over_stdio("--ignore-eof", "--ignore-sigterm")
    if wrapped:
        script = tmp_path / "start.sh"
        script.write_text(f"#!/bin/sh\n'{server.command}' {' '.join(server.args)}\nexit 0\n")
        script.chmod(0o700)
        server = StdioServer(command=str(script))
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, server.model_dump_json()], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        while (line := holder.stdout.readline()) != b"ready\n":
            assert line, "it ended"
        processes = psutil.Process(holder.pid).children(recursive=True)
        assert len(processes) == (3 if wrapped else 2)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        deadline = time.monotonic() + 5
        while [each for each in processes if lives(each)] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [each for each in processes if lives(each)]
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_mcp_is_not_imported_without_a_server() -> None:
    program = (
        "import sys; import agent_service.main; from agent_service.config import AgentSettings;"
        "agent_service.main.create_app(AgentSettings(_env_file=None)); sys.exit('mcp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_config_that_cannot_work_stops_the_start_with_a_plain_message(tmp_path: Path) -> None:
    config = tmp_path / "servers.json"
    config.write_text('{"mcpServers": {"wiki": {"url": "http://x/mcp", "header": {}}}}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"PATH": os.environ["PATH"], "COLLOQUY_MCP_CONFIG": str(config), "COLLOQUY_AGENT_PORT": port}
    started = subprocess.run(
        [sys.executable, "-m", "agent_service"], env=environment, capture_output=True, text=True, check=False
    )
    assert started.returncode == 2
    assert "server `wiki`: `header`: there is no such key" in started.stderr
    assert "Traceback" not in started.stderr


class PeakMemory:
    """How far this process grew at most, by the kernel's own mark."""

    def __enter__(self) -> Self:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.grown = self._read("VmHWM") - self._before

    def _read(self, name: str) -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))
