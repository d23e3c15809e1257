"""Password hashing: Argon2id in threads of its own.

Parameters are OWASP's "19 MiB, two passes" (Password Storage Cheat Sheet) rather than pwdlib's default of
64 MiB and three: 30 ms of a core instead of 155 ms, and 38 MiB for two at a time instead of 128, which is
what the memory goal of an API process leaves room for. glibc keeps those 38 MiB once they were used.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """`new_hash` is set when the password is right and its hash was made with other parameters."""

    valid: bool
    new_hash: str | None


class PasswordHasher(Protocol):
    """Takes tens of milliseconds: never call it while holding a database connection."""

    async def hash(self, password: str) -> str: ...

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        """Compare with a stored hash. None costs as much time as one that does not match."""
        ...


class Argon2PasswordHasher:
    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES, at_a_time: int = AT_A_TIME) -> None:
        self._hasher = PasswordHash((Argon2Hasher(time_cost=passes, memory_cost=memory_kib, parallelism=LANES),))
        self._decoy = _decoy(memory_kib, passes)
        self._threads = ThreadPoolExecutor(at_a_time, thread_name_prefix="argon2")

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, _canonical(password))

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._check, _canonical(password), stored
        )

    def close(self) -> None:
        self._threads.shutdown()

    def _check(self, password: str, stored: str | None) -> PasswordCheck:
        if stored is None:
            self._hasher.verify(password, self._decoy)
            return PasswordCheck(valid=False, new_hash=None)
        try:
            valid, new_hash = self._hasher.verify_and_update(password, stored)
        except UnknownHashError:
            return PasswordCheck(valid=False, new_hash=None)
        return PasswordCheck(valid, new_hash)


def _canonical(password: str) -> str:
    # The same letters may be typed as different code points on another keyboard (NIST SP 800-63B, 3.1.1.2).
    return unicodedata.normalize("NFKC", password)


def _decoy(memory_kib: int, passes: int) -> str:
    """A well-formed hash that no password has: it takes as long to check as a real one."""
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={memory_kib},t={passes},p={LANES}${salt}${digest}"
