"""How many completions a process answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chat_api.completions.errors import TooManyCompletions
from chat_api.config import ApiSettings


class CompletionPlaces:
    """One per process. They are counted beside runs, which wait for a place where a completion cannot."""

    def __init__(self, settings: ApiSettings) -> None:
        self._free = settings.max_concurrent_runs

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises `TooManyCompletions`."""
        if self._free <= 0:
            raise TooManyCompletions
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
