"""A hasher that takes no time and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chat_api.users.passwords import PasswordCheck


class RecordingHasher:
    """Hashes are `<scheme>:<password>`; a hash of another scheme is made new when its password is right."""

    def __init__(self, scheme: str = "v1") -> None:
        self.scheme = scheme
        self.checks: list[str | None] = []
        self.while_checking: Callable[[], Awaitable[None]] | None = None

    async def hash(self, password: str) -> str:
        return f"{self.scheme}:{password}"

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        self.checks.append(stored)
        if self.while_checking is not None:
            await self.while_checking()
        if stored is None or stored.partition(":")[2] != password:
            return PasswordCheck(valid=False, new_hash=None)
        outdated = not stored.startswith(f"{self.scheme}:")
        return PasswordCheck(valid=True, new_hash=await self.hash(password) if outdated else None)
