"""Stands between the agent and an MCP server's process: `mcp_keeper.py PARENT NAMES COMMAND [ARGUMENT…]`.

It starts the command in a process group of its own, with those variables of its own environment that NAMES lists
(separated by commas), lets it have standard input and output, and ends with its exit code. When it is told to end
(SIGTERM), or its parent dies of whatever, the whole group is told to end, and killed two seconds later. When the
command ends, what it left behind in its group is killed. If this process itself is killed, Linux kills the command.

Many a server is started by another program (`npx`, `uvx`), so a signal to the process that we know is not enough.
It imports next to nothing: there is one of it per server.
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_CANNOT_RUN = 127
_WAITED_FOR = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM}


def _die_with(parent: int, death_signal: signal.Signals) -> None:
    """On Linux the kernel tells us of our parent's death. Elsewhere we look every second."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != parent:
        os._exit(1)  # it went before we asked


def _become(command: list[str], environment: dict[str, str], keeper: int) -> None:
    os.setpgid(0, 0)
    _die_with(keeper, signal.SIGKILL)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, for itself
        signal.signal(ignored, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is wanted
    except OSError:
        os._exit(_CANNOT_RUN)


class _Child:
    def __init__(self, number: int) -> None:
        self.number = number
        self._status: int | None = None

    def has_ended(self) -> bool:
        if hasattr(os, "waitid"):
            # Left unreaped: as long as it is, nobody else can get its number, and so its group's.
            return os.waitid(os.P_PID, self.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        # macOS has no such call before Python 3.13.
        if self._status is None:
            ended, status = os.waitpid(self.number, os.WNOHANG)
            self._status = status if ended else None
        return self._status is not None

    def exit_code(self) -> int:
        """Waits for its end. As a shell tells it: 128 and the signal's number."""
        if self._status is None:
            _, self._status = os.waitpid(self.number, 0)
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code


def _signal_group(child: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(child, number)


def main() -> None:
    parent, names, command = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
    # What Python adds to its environment (LC_CTYPE) is not for the server.
    environment = {name: os.environ[name] for name in names if name in os.environ}
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    _die_with(parent, signal.SIGTERM)
    keeper = os.getpid()
    child = _Child(os.fork())
    if child.number == 0:
        _become(command, environment, keeper)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(child.number, child.number)  # whichever of the two comes first
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # or else neither side would see the other close its end
    os.dup2(nothing, 1)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    while not child.has_ended():
        got = signal.sigwait(_WAITED_FOR)
        if got in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) or os.getppid() != parent:
            _signal_group(child.number, signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
            while not child.has_ended() and time.monotonic() < deadline:
                time.sleep(0.02)
            break
    _signal_group(child.number, signal.SIGKILL)
    os._exit(child.exit_code())


if __name__ == "__main__":
    main()
