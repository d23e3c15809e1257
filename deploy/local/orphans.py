"""A PostgreSQL that outlived its supervisor: found, stopped, its traces removed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_STOP_SECONDS = 10.0


def end_orphan(folder: Path, pg_ctl: Path, env: Mapping[str, str]) -> None:
    """Leave no server process on the database in `folder`. The caller holds the folder's lock, so nobody needs it.

    On Linux a stale postmaster.pid is removed as well: after a restart of a container its number may belong
    to somebody else, for whom PostgreSQL would wait for ever. Nothing has the shared memory any more then,
    which is what the file protects.
    """
    if sys.platform != "linux":
        if (folder / "postmaster.pid").exists():
            stop = [str(pg_ctl), "stop", "-D", str(folder), "-m", "fast", "-t", f"{_STOP_SECONDS:.0f}"]
            subprocess.run(stop, env=env, cwd="/", capture_output=True, check=False)
        return
    started = time.monotonic()
    asked = False
    while processes := _server_processes(folder):
        if time.monotonic() - started > _STOP_SECONDS:
            for pid in processes:
                _signal(pid, signal.SIGKILL)
        elif not asked:
            asked = True
            postmaster = _recorded_pid(folder)
            if postmaster in processes:
                _signal(postmaster, signal.SIGINT)  # the others end with it
        time.sleep(0.02)
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _server_processes(folder: Path) -> set[int]:
    """The postmaster and its children: each has the database's folder as its working directory."""
    wanted = str(folder.resolve())
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Gone meanwhile, or somebody else's: then it is not ours either.
            with contextlib.suppress(OSError):
                if str((entry / "cwd").readlink()) == wanted and b"postgres" in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
    return found


def _recorded_pid(folder: Path) -> int:
    try:
        return int((folder / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return -1


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
