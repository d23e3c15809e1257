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

from agent_service.__main__ import main
from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.ports.tools import ToolFailed
from shared.contracts.tools import ToolSourceState
from tests.fakes.mcp_bare_http import BareHttpServer
from tests.fakes.mcp_process import Server, over_bare_stdio, ready, said

MIB = 1024 * 1024
TIMES = McpTimes(session=60.0, retry_base=0.05, retry_max=0.5)
"""A busy machine may take its time: only what is waited for in vain has a short limit."""


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


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def until_down(source: McpSource) -> str | None:
    """Wait until it is down; what it says of that."""
    await until(lambda: source.state().state is ToolSourceState.DOWN and source.state().error is not None)
    return source.state().error


def lives(process: psutil.Process) -> bool:
    """Who has ended and is not collected yet does not: that is init's to do, not ours."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def server_processes() -> list[psutil.Process]:
    """Keepers and servers of this process, oldest first."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if any("mcp_bare_server.py" in part for part in each.cmdline())]


async def test_a_server_that_dies_is_started_again() -> None:
    async with source_of(over_bare_stdio()) as source:
        await ready(source)
        waiting = asyncio.ensure_future(failure(source, "hang"))
        while await said(source, "hanging") != "1":
            await asyncio.sleep(0.01)

        told = await failure(source, "exit_now", code=7)

        assert told.message.endswith("Its process ended with code 7.")
        assert (told.outcome_unknown, told.retryable) == (True, True)
        assert (await waiting).outcome_unknown  # the others are told as well
        # A call waits for the next session, and its tools are there meanwhile.
        assert await said(source, "echo", text="back") == "back"
        assert (source.state().restarts, source.state().error) == (1, None)


async def test_a_killed_server_is_started_again_without_a_call() -> None:
    async with source_of(over_bare_stdio()) as source:
        await ready(source)
        os.kill(int(await said(source, "pid")), signal.SIGKILL)
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


async def test_a_server_that_cannot_be_started_is_down_and_says_why() -> None:
    async with source_of(StdioServer(command="no-such-command-anywhere")) as source:
        assert await until_down(source) == "Its command is not found."
        assert (source.state().tools, list(source.tools())) == (0, [])
        await until(lambda: source.state().restarts >= 2)


@pytest.mark.parametrize(
    ("program", "seconds", "told"),
    [("raise SystemExit(3)", 30.0, "Its process ended with code 3."), ("input()", 30.0, "Its process ended"),
     ("print('hello'); import time; time.sleep(60)", 0.5, "It did not answer in time.")],
    ids=["exits", "is something else", "says nothing"],
)  # fmt: skip
async def test_a_process_that_is_no_server_is_down_and_says_why(program: str, seconds: float, told: str) -> None:
    server = StdioServer(command=sys.executable, args=["-S", "-c", program])
    async with source_of(server, McpTimes(open=seconds, retry_base=30.0)) as source:
        assert str(await until_down(source)).startswith(told)


async def test_a_server_that_starts_slowly_gets_more_time_until_it_is_there() -> None:
    times = McpTimes(open=0.25, retry_base=0.05, retry_max=0.1, open_max=60.0)
    async with source_of(over_bare_stdio("--start-seconds", "1"), times) as source:
        await ready(source)
        assert source.state().restarts >= 2


async def test_pauses_between_starts_grow() -> None:
    with structlog.testing.capture_logs() as logs:
        times = McpTimes(retry_base=0.05, retry_max=0.3)
        source = McpSource("fake", StdioServer(command="no-such-command"), times, jitter=lambda: 1.0)
        await source.start()
        await until(lambda: source.state().restarts >= 5)
        await source.aclose()
    pauses = [entry["retry_in"] for entry in logs if entry["event"] == "mcp.down"]
    assert pauses[:5] == [0.05, 0.1, 0.2, 0.3, 0.3]


async def test_a_start_waits_for_nobody_and_neither_does_an_end() -> None:
    started = time.perf_counter()
    async with source_of(over_bare_stdio("--start-seconds", "600")) as source:
        assert source.state().state is ToolSourceState.STARTING
        assert list(source.tools()) == []
        await until(lambda: len(server_processes()) == 2)  # the keeper, and the server
    assert time.perf_counter() - started < 60


async def test_a_process_that_hangs_as_a_whole_is_started_again(tmp_path: Path) -> None:
    wedged = tmp_path / "wedged"
    async with source_of(over_bare_stdio(), McpTimes(ping=1.0, session=60.0, retry_base=0.05)) as source:
        await ready(source)
        call = asyncio.ensure_future(said(source, "wedge", path=str(wedged)))
        await until(wedged.exists)
        call.cancel()  # as its time is up
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


async def test_a_process_that_hangs_while_nobody_calls_is_noticed() -> None:
    async with source_of(over_bare_stdio(), McpTimes(ping_every=0.1, ping=1.0, retry_base=0.05)) as source:
        await ready(source)
        hung = await said(source, "pid")
        os.kill(int(hung), signal.SIGSTOP)
        await ready(source, restarts=1)
        assert await said(source, "pid") != hung


async def test_a_process_that_is_busy_with_a_call_is_left_to_it() -> None:
    async with source_of(over_bare_stdio(), McpTimes(ping_every=0.1, ping=1.0, retry_base=0.05)) as source:
        await ready(source)
        assert await said(source, "busy", seconds=3) == "done"


async def test_an_agent_that_stood_still_does_not_take_its_server_for_gone() -> None:
    async with source_of(over_bare_stdio(), McpTimes(ping_every=0.1, ping=1.0, retry_base=0.05)) as source:
        await ready(source)
        server = await said(source, "pid")
        for _ in range(3):
            await asyncio.sleep(0.15)  # a ping is on its way, or will be
            time.sleep(1.1)  # noqa: ASYNC251 - the whole loop stands still, which is the point
        assert await said(source, "pid") == server


@pytest.mark.parametrize("kind", ["line", "lines", "messages", "result"])
async def test_a_flood_fails_the_call_and_stays_out_of_memory(kind: str) -> None:
    async with source_of(over_bare_stdio()) as source:
        await ready(source)
        await said(source, "echo", text="x" * MIB)
        with PeakMemory() as memory:
            told = await failure(source, "flood", mib=100, kind=kind)
        assert told.outcome_unknown
        assert "It sent" in told.message
        assert memory.grown < 32 * MIB
        await ready(source, restarts=1)
        assert await said(source, "echo", text="back") == "back"


async def test_large_answers_that_are_no_flood_arrive() -> None:
    async with source_of(over_bare_stdio()) as source:
        await ready(source)
        for size in (1, 3):
            assert len(await said(source, "flood", mib=size, kind="result")) == size * MIB


async def test_a_flood_over_http_fails_the_call_and_stays_out_of_memory() -> None:
    async with BareHttpServer() as server, source_of(HttpServer(url=server.url)) as source:
        await ready(source)
        await said(source, "echo", text="x" * MIB)
        with PeakMemory() as memory:
            told = await failure(source, "flood", mib=100)
        assert told.outcome_unknown
        assert told.message == "The server's answer is too large."
        assert memory.grown < 32 * MIB
        # It was one answer, and the next may be as it should.
        assert await said(source, "echo", text="back") == "back"


async def test_an_http_server_that_dies_is_found_again() -> None:
    async with BareHttpServer() as server, source_of(HttpServer(url=server.url)) as source:
        await ready(source)

        told = await failure(source, "exit_now")

        assert (told.outcome_unknown, told.retryable) == (True, True)
        assert await until_down(source) in ("It does not answer.", "The server cannot be reached.")
        async with BareHttpServer(port=server.port):
            await ready(source, restarts=1)
            assert await said(source, "echo", text="back") == "back"


async def test_a_session_that_an_http_server_forgot_is_opened_anew() -> None:
    async with BareHttpServer() as server, source_of(HttpServer(url=server.url)) as source:
        await ready(source)
        server.die()
        async with BareHttpServer(port=server.port):
            assert await said(source, "echo", text="x") == "x"
            assert source.state().restarts == 1


async def test_an_http_server_that_refuses_us_is_down_and_no_log_shows_why_in_full() -> None:
    with structlog.testing.capture_logs() as logs:
        async with BareHttpServer(token="right") as refusing:
            headers = {"Authorization": "Bearer wrong-secret"}
            server = HttpServer.model_validate({"url": refusing.url, "headers": headers})
            async with source_of(server) as source:
                assert await until_down(source) == "The server refused the call (HTTP 401)."
                assert "wrong-secret" not in json.dumps(logs) + source.state().model_dump_json()


async def test_an_http_server_that_is_not_there_is_down() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with source_of(HttpServer(url=f"http://127.0.0.1:{taken.getsockname()[1]}/mcp")) as source:
            assert await until_down(source) == "The server cannot be reached."


async def test_no_log_holds_what_is_said() -> None:
    with structlog.testing.capture_logs() as logs:
        async with source_of(over_bare_stdio(env={"KEY": "the-secret"})) as source:
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
    async with source_of(over_bare_stdio(*stubborn)) as source:
        await ready(source)
        processes = server_processes()
        assert len(processes) == 2
    # What was killed a moment ago may take another to be gone.
    await until(lambda: not [process for process in processes if lives(process)])
    assert server_processes() == []


def started_by_a_shell(server: StdioServer, folder: Path) -> StdioServer:
    script = folder / "start.sh"
    script.write_text(f"#!/bin/sh\n'{server.command}' {' '.join(server.args)}\nexit 0\n")
    script.chmod(0o700)
    return StdioServer(command=str(script))


async def test_nothing_is_left_running_by_an_end_in_the_middle_of_another(tmp_path: Path) -> None:
    server = started_by_a_shell(over_bare_stdio("--ignore-eof", "--ignore-sigterm"), tmp_path)
    others = psutil.Process().children(recursive=True)
    async with source_of(server) as source:
        await ready(source)
        processes = [each for each in psutil.Process().children(recursive=True) if each not in others]
        assert len(processes) == 3  # the keeper, the shell, and the server
        assert (await failure(source, "flood", mib=100)).outcome_unknown
        # The server heeds nothing, so it is still being ended when the agent stops.
        await until(lambda: source.state().state is ToolSourceState.DOWN)
        assert lives(processes[-1])
    await until(lambda: not [process for process in processes if lives(process)])


_HOLDER = """
import asyncio, json, sys
from agent_service.adapters.mcp_config import StdioServer
from agent_service.adapters.mcp_source import McpSource, McpTimes

async def main():
    sources = [McpSource("fake", StdioServer.model_validate_json(each), McpTimes()) for each in sys.argv[1:]]
    for source in sources:
        await source.start()
    while any(source.state().state != "ready" for source in sources):
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_an_agent_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    server = over_bare_stdio("--ignore-eof", "--ignore-sigterm")
    servers = [server.model_dump_json(), started_by_a_shell(server, tmp_path).model_dump_json()]
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, *servers], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        while (line := holder.stdout.readline()) != b"ready\n":
            assert line, "it ended"
        processes = psutil.Process(holder.pid).children(recursive=True)
        assert len(processes) == 5  # two keepers, two servers, and a shell
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        deadline = time.monotonic() + 30
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


def test_a_config_that_cannot_work_stops_the_start_with_a_plain_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "servers.json"
    config.write_text('{"mcpServers": {"wiki": {"url": "http://x/mcp", "header": {}}}}')
    monkeypatch.setenv("COLLOQUY_MCP_CONFIG", str(config))
    assert main() == 2
    said = capfd.readouterr().err
    assert "server `wiki`: `header`: there is no such key" in said
    assert len(said.strip().splitlines()) == 1


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
