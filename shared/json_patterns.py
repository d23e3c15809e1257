"""Patterns of JSON Schemas that others wrote.

Python's own engine takes years over `^(a+)+$`, and holds the interpreter's lock meanwhile, so that no thread and no
timer helps. Pydantic's takes time that grows with the text alone. It knows neither look-around nor references back.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

_MOST_CHARACTERS = 2_000
_MOST_STATES = 4_000
"""To build a larger pattern takes a tenth of a second, and megabytes."""
_MOST_STEPS = 2_000_000
"""About a tenth of a second."""

_OF_GROUP = re.compile(r"\)\{(\d{1,9})?,?(\d{1,9})?\}")
_OF_ANYTHING = re.compile(r"\{(\d{1,9})?,?(\d{1,9})?\}")


def matches(pattern: str, text: str) -> bool | None:
    """Whether the pattern is found in the text. None where that cannot be known in bounded time."""
    engine = _engine(pattern)
    if engine is None or _states(pattern) * (len(text) + 1) > _MOST_STEPS:
        return None
    return engine.isinstance_python(text)


@lru_cache(maxsize=256)
def _engine(pattern: str) -> SchemaValidator | None:
    if len(pattern) > _MOST_CHARACTERS or _states(pattern) > _MOST_STATES:
        return None
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _states(pattern: str) -> int:
    """At most so many states the engine may be in at once: what counts repeat is there as often."""
    groups = math.prod(map(_most, _OF_GROUP.findall(pattern)))
    return (len(pattern) + sum(map(_most, _OF_ANYTHING.findall(pattern)))) * groups


def _most(counts: tuple[str, str]) -> int:
    least, most = counts
    return max(1, int(least or 0), int(most or 0))
