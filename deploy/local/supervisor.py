"""Keeps children running: what dies is started again, what cannot start stops everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.errors import CannotStart
from deploy.local.processes import exit_reason

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
MOST_FAILED_STARTS = 5


class Child(Protocol):
    """A server or service. `start` may block until it answers; a child that answers once has settled."""

    @property
    def name(self) -> str: ...

    @property
    def log_path(self) -> Path: ...

    def start(self) -> None:
        """Raises `CannotStart`."""

    def poll(self) -> int | None:
        """None while it runs, else its return code."""

    def answers(self) -> bool:
        """Whether it does its work by now. Asked until it says yes, so it has to be quick."""

    def ask_to_stop(self) -> None:
        """Return at once; `stop` waits."""

    def stop(self) -> None:
        """Return when it has ended. Harmless when it is not running."""


def delay_before_start(failed_starts: int) -> float:
    """Seconds to wait after so many starts in a row that failed: 0.2, 0.4, 0.8 … 5."""
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** max(0, failed_starts - 1))


@dataclass
class _Watch:
    child: Child
    failed_starts: int = 0
    settled: bool = False
    start_at: float | None = None
    """When to start it again; None while it runs."""


class Supervisor:
    """Starts children in the order they are added, and stops them in the opposite order.

    It has no thread: its owner calls `tend` often. `say` gets one line for each thing that happened.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._groups: list[list[_Watch]] = []

    def add(self, *children: Child, with_last: bool = False) -> None:
        """Start `children`; they form one group, which is stopped at the same time. Raises `CannotStart`.

        `with_last` adds them to the group before instead.
        """
        if not with_last:
            self._groups.append([])
        for child in children:
            self._groups[-1].append(_Watch(child))
            child.start()

    def tend(self) -> float:
        """Look at every child once. Returns after how many seconds to look again, at the latest.

        Raises `CannotStart` when a child failed five times in a row before it ever answered.
        """
        waits = [self._tend(watch) for group in self._groups for watch in group]
        return min(waits, default=1.0)

    def stop(self) -> None:
        while self._groups:
            group = self._groups.pop()
            for watch in group:
                watch.child.ask_to_stop()
            for watch in group:
                watch.child.stop()

    def _tend(self, watch: _Watch) -> float:
        child = watch.child
        if watch.start_at is None:
            code = child.poll()
            if code is None:
                if not watch.settled and child.answers():
                    watch.settled, watch.failed_starts = True, 0
                return 1.0 if watch.settled else 0.05
            self._plan_start(watch, f"{child.name} ended ({exit_reason(code)})")
        assert watch.start_at is not None
        now = self._clock()
        if now < watch.start_at:
            return watch.start_at - now
        watch.start_at = None
        try:
            child.start()
        except CannotStart as error:
            self._plan_start(watch, str(error))
        return 0.05

    def _plan_start(self, watch: _Watch, reason: str) -> None:
        watch.failed_starts = 1 if watch.settled else watch.failed_starts + 1
        watch.settled = False
        if watch.failed_starts >= MOST_FAILED_STARTS:
            raise CannotStart(
                f"{watch.child.name} failed {watch.failed_starts} times in a row: {reason}; see {watch.child.log_path}"
            )
        delay = delay_before_start(watch.failed_starts)
        watch.start_at = self._clock() + delay
        self._say(f"{reason}; starting {watch.child.name} again in {delay:.1f} s")


def follow(paths: Sequence[Path]) -> LogFollower:
    """Copy to the terminal what is appended to these logs from now on."""
    return LogFollower({path: path.stat().st_size if path.exists() else 0 for path in paths})


class LogFollower:
    """Reads logs as they grow, so that a slow terminal never blocks who writes them."""

    def __init__(self, offsets: dict[Path, int]) -> None:
        self._offsets = offsets

    def lines(self) -> list[str]:
        """The whole lines that are new, each with the name of its log in front."""
        found: list[str] = []
        for path, offset in self._offsets.items():
            try:
                with path.open("rb") as log:
                    if path.stat().st_size < offset:
                        offset = 0
                    log.seek(offset)
                    whole, newline, _ = log.read().rpartition(b"\n")
            except OSError:
                continue
            self._offsets[path] = offset + len(whole) + len(newline)
            found += [f"{path.stem:<8} | {line}" for line in whole.decode(errors="replace").splitlines()]
        return found
