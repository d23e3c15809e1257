"""Progress bars of commands that take their time: rich's, on standard error, so that results can go to a file.

Where nobody watches (a log, a pipe) there is one line at the end instead of a moving one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol, TextIO, assert_never

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_PER_SECOND = 4


class Unit(StrEnum):
    """What a bar counts: things, bytes, or parts of things, of which the share alone tells something."""

    ITEMS = "items"
    BYTES = "bytes"
    SHARE = "share"


class Bar(Protocol):
    """What long work tells how far it is. `total` is None where nobody knows how much there will be."""

    def update(self, n_steps: int, /) -> None: ...

    def set_total(self, total: int | None, /) -> None: ...


class _RichBar:
    def __init__(self, shown: Progress, task: TaskID) -> None:
        self._shown = shown
        self._task = task

    def update(self, n_steps: int, /) -> None:
        self._shown.advance(self._task, n_steps)

    def set_total(self, total: int | None, /) -> None:
        self._shown.update(self._task, total=total)


class Unseen:
    """A bar for whoever calls the work from a program."""

    def update(self, n_steps: int, /) -> None:
        """Nobody looks."""

    def set_total(self, total: int | None, /) -> None:
        """Nobody looks."""


@contextmanager
def progress(
    label: str, total: int | None = None, *, unit: Unit = Unit.ITEMS, file: TextIO | None = None
) -> Iterator[Bar]:
    """Show a bar as long as the block runs. It stays on the screen with what was reached."""
    # The stream of now: a test, or whoever redirects, may have put another in its place since the import.
    console = Console(file=file or sys.stderr, highlight=False, soft_wrap=True)
    with Progress(*_columns(unit), console=console, refresh_per_second=_PER_SECOND) as shown:
        # Labels may hold names of files: brackets in them are no markup.
        yield _RichBar(shown, shown.add_task(label, total=total))


def _columns(unit: Unit) -> list[ProgressColumn]:
    label = TextColumn("{task.description}", markup=False)
    times: list[ProgressColumn] = [TimeElapsedColumn(), TimeRemainingColumn()]
    match unit:
        case Unit.ITEMS:
            return [label, BarColumn(), MofNCompleteColumn(), *times]
        case Unit.BYTES:
            return [label, BarColumn(), DownloadColumn(), TransferSpeedColumn(), *times]
        case Unit.SHARE:
            return [label, BarColumn(), TextColumn("{task.percentage:>3.0f} %"), *times]
        case _:
            assert_never(unit)
