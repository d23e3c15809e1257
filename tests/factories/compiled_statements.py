"""What SQLAlchemy makes of our statements, kept from one application to the next.

Each engine has a dialect of its own, and compiled statements are kept by dialect: without this every test compiles
every statement that it needs, which is a fifth of what a small test costs. Engines of applications are made alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine

_COMPILED: dict[Any, Any] = {}
_known: list[Dialect] = []
"""The first one that has asked the server what it can do. All of them ask the same server."""


@contextmanager
def compiled_once(engine: AsyncEngine) -> Iterator[None]:
    """Have a new engine use what others compiled, and leave them what it compiles. Enter it before the first query."""
    if _known:
        engine.sync_engine.dialect = _known[0]
        engine.sync_engine.update_execution_options(compiled_cache=_COMPILED)
    yield
    if not _known and engine.sync_engine.dialect.server_version_info is not None:
        _known.append(engine.sync_engine.dialect)
