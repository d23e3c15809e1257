"""Whom an API key belongs to: only the chat API knows."""

from __future__ import annotations

from typing import Protocol

from shared.contracts.introspection import KeyIntrospection


class KeyIntrospector(Protocol):
    async def introspect(self, key: str) -> KeyIntrospection:
        """Raises `ChatApiUnavailable` when nobody can tell."""
        ...
