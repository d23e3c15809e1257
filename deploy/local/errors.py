"""The one kind of failure that is told to a person as a line instead of a traceback."""

from __future__ import annotations


class CannotStart(Exception):
    """Something on this machine keeps Colloquy from running. The message says what, and what to do."""
