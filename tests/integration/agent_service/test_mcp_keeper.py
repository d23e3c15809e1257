"""The process between the agent and an MCP server, also where the system has no `waitid` (macOS)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from agent_service.adapters import mcp_keeper

_RUN = "import os, runpy, sys; {cut}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
_SECONDS = 60

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=["waitid", "no waitid"])
def start(request: pytest.FixtureRequest) -> Start:
    program = _RUN.format(cut="pass" if request.param == "waitid" else "del os.waitid")

    def start(*command: str) -> subprocess.Popen[bytes]:
        keeper = [sys.executable, "-c", program, mcp_keeper.__file__, str(os.getpid()), "PATH", *command]
        return subprocess.Popen(keeper, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    return start


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 128 + signal.SIGKILL)])
def test_it_ends_with_the_servers_exit_code(start: Start, script: str, code: int) -> None:
    with start("sh", "-c", script) as keeper:
        assert keeper.wait(_SECONDS) == code


def test_the_server_talks_as_if_there_was_nobody_between(start: Start) -> None:
    with start("cat") as keeper:
        said, _ = keeper.communicate(b"hello\n", timeout=_SECONDS)
        assert (said, keeper.returncode) == (b"hello\n", 0)


def test_what_the_server_started_ends_with_it(start: Start) -> None:
    with start("sh", "-c", "sleep 600 & echo $!; wait") as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline().strip().isdigit()
        keeper.terminate()
        assert keeper.wait(_SECONDS) == 128 + signal.SIGTERM
        # The end of the pipe: nobody of the group is left to write to it.
        assert keeper.stdout.read() == b""
