"""Addresses of databases. Apart from `kit.db`, because commands and migrations need no more of it."""

from __future__ import annotations

from sqlalchemy.engine import make_url


def dsn(url: str) -> str:
    """The address as asyncpg reads it itself, with `?sslmode=` and the like, whatever driver it names."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
