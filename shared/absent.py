"""Leaving out what a library imports only because it is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

TERMINAL = ("rich", "pygments")
"""Colours for terminals. httpx and structlog import them where they are installed, for commands and renderers that no
service uses: 4 MiB and a twelfth of the time that the imports of the chat API take."""


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """While the block lasts, whoever tries to import these finds that they are not installed.

    For the imports of a process that never needs them, and for packages that others can do without. What is imported
    already stays. Afterwards they can be imported again.
    """
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]  # Python's own sign for a module that is not there
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]
